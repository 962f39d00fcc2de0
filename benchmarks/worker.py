"""The process of one variant: `python -m benchmarks.worker MODULE JOB VARIANT FOLDER`, driven by `measuring`.

It says when it is ready, and then answers every line on stdin with a line of JSON: seconds, processor seconds, peak
memory so far, and the result. Each variant has such a process, because the peak of a process never falls.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from .jobs import load_jobs

STATUS = Path("/proc/self/status")


def peak_mib() -> float | None:
    """The peak resident memory of this process or of its largest child, MiB; None where the system does not tell."""
    # getrusage would start with the peak of the process that started this one.
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return max(own[0], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024 if own else None


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def serve(module: str, job: str, variant: str, folder: str) -> None:
    """Answer until stdin ends; what the variant prints goes to stderr."""
    answers = sys.stdout

    def answer(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    with contextlib.redirect_stdout(sys.stderr):
        [chosen] = [one for one in load_jobs(module) if one.name == job]
        [make] = [one.make for one in chosen.variants if one.name == variant]
        run = make(Path(folder))
        answer(loaded_mib=peak_mib())
        for _ in sys.stdin:
            processor, start = _processor_seconds(), time.perf_counter()
            result = run()
            seconds, processor = time.perf_counter() - start, _processor_seconds() - processor
            peak = peak_mib()
            result = result() if callable(result) else result
            answer(seconds=seconds, processor_seconds=processor, peak_mib=peak, result=result)


if __name__ == "__main__":
    serve(*sys.argv[1:])
