"""Does the same again and again in one process, and tells what that costs: `python memory_app.py JOB`.

JOB is a JSON file: {"bundle", "config", "overrides", "engine": id of a trainer or an evaluator, "runs", "after": the
iterations after which is looked, "report": file}. Writes what is in use then: resident kilobytes, and open files.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

PAGE = os.sysconf("SC_PAGE_SIZE")


def in_use() -> tuple[int, int]:
    """Resident memory in kilobytes, after what is garbage is gone, and the number of open files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE // 1024, len(os.listdir("/proc/self/fd"))


def main(job: dict[str, Any]) -> None:
    """Run and report."""
    workflow = ConfigWorkflow(
        config_file=str(Path(job["bundle"]) / "configs" / job["config"]),
        logging_file=False,  # type: ignore[arg-type]  # MONAI's own word for none
        bundle_root=job["bundle"],
        **job["overrides"],
    )
    workflow.initialize()
    engine: Engine = workflow.parser.get_parsed_content(job["engine"])
    found, count = [], 0

    def look() -> None:
        nonlocal count
        count += 1
        if count in job["after"]:
            found.append((count, *in_use()))

    engine.add_event_handler(Events.ITERATION_COMPLETED, look)
    for _ in range(job["runs"]):
        engine.run()
    Path(job["report"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
