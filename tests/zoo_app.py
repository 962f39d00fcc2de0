"""A bundle as a unit test of MONAI's model zoo runs it: `python zoo_app.py JOBS`, away from the project's code.

JOBS is a JSON file: a list of {"bundle": folder, "configs": names, "type": "train" or "infer", "overrides": settings}.
Each workflow is made ready, asked for its properties, run and finished, all of them in one process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow


def run(bundle: Path, configs: list[str], kind: str, overrides: dict[str, Any]) -> None:
    """Run one workflow of a bundle."""
    files = [str(bundle / "configs" / f"{name}.json") for name in configs]
    workflow = ConfigWorkflow(
        workflow_type=kind,
        config_file=files if len(files) > 1 else files[0],
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=str(bundle / "configs" / "logging.conf"),
        bundle_root=str(bundle),
        **overrides,
    )
    workflow.initialize()
    missing = workflow.check_properties()
    assert missing == [], missing
    workflow.run()
    workflow.finalize()


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run(Path(job["bundle"]), job["configs"], job["type"], job["overrides"])
