"""How long a step of every method takes here, so that methods can have equal time in place of equal steps."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json, write_json

from ..common.curves import seconds_a_step
from ..common.findings import Findings
from ..common.gpus import visible_gpus
from ..common.merging import load_config, parse_overrides
from .plan import Plan, differences, plan
from .request import Request
from .state import CURVES, LOG, RESUME, is_finished, read_state

WARM_UP, TIMED = 10, 20  # steps
FOLDER, RECORD = "timing", "timing.json"

Work = Callable[[Sequence[Plan], str], None]  # works on the runs of plans, which it announces by these words


def in_minutes(request: Request, arm: str, workers: int | None, work: Work) -> Request:
    """The request with as many steps for each method as fit into its minutes; validation does not count.

    A method that OUTPUT/timing.json does not have is timed by a short training of its own in the same settings, without
    validation, while as many others run as in the comparison. Every method is validated as often as the bundle's own
    length would be.

    Args:
        request: with its `minutes`.
        arm: name of the settings that are timed, such as "recommended"; a method's options may change its time.
        workers: of the comparison on this machine; None: jobs of a cluster, one at a time on each node.
        work: is given the runs.

    Raises:
        UserError: a timing failed, or the others were timed on another machine or in other settings.
    """
    file = request.output / RECORD
    record: dict[str, Any] = read_json(file, "times of steps") if file.is_file() else {}
    seconds: dict[str, float] = record.get("seconds", {}).get(arm, {})
    missing = [method for method in request.methods if method not in seconds]
    if missing:
        here = _here(request, workers)
        found = differences(record.get("measured", here), here)
        if found:
            raise UserError(
                f"{file}: expected to time {', '.join(missing)} like the methods that are there, found other "
                f"conditions: {found}; go on there, or choose another --output"
            )
        seconds |= _timed(request, arm, missing, workers or 1, work)
        write_json(file, {"measured": here, "seconds": {**record.get("seconds", {}), arm: seconds}})
    minutes = request.minutes or 0.0
    lengths = {method: max(1, int(60 * minutes / seconds[method])) for method in request.methods}
    return replace(request, lengths=lengths, epochs=_validations(request))


def _here(request: Request, workers: int | None) -> dict[str, Any]:
    """What the time of a step depends on beside the method."""
    processors = len(os.sched_getaffinity(0))
    return {
        "machine": "slurm" if workers is None else socket.gethostname(),
        "processors": processors,
        "gpus": len(visible_gpus()),
        "workers": workers or 1,
        "threads": os.environ.get("OMP_NUM_THREADS", str(processors // (workers or 1))),
        "bundle": request.bundle.name,
        "preset": request.preset,
        "steps": f"{TIMED} after {WARM_UP}",
        **{key: value for key, value in request.overrides.items() if key != "split_file"},
    }


def _timed(request: Request, arm: str, methods: Sequence[str], copies: int, work: Work) -> dict[str, float]:
    """Seconds a step by method: the mean over as many copies of a short training as there are workers."""
    own = {"epochs": str((WARM_UP + TIMED) // WARM_UP), "val_interval": str(WARM_UP + TIMED)}
    short = replace(
        request,
        output=request.output / FOLDER / arm,
        methods=methods,
        seeds=range(copies),
        minutes=None,
        steps=WARM_UP + TIMED,
        overrides={**request.overrides, **own},
        test=False,
        scored=(),
        what=f"timing, {arm}",
    )
    planned = plan(short)
    # The copies of a method run beside each other, and at its side the next method: all workers are busy.
    runs = sorted(planned.runs, key=lambda run: methods.index(run.method))
    for run in runs:
        if not is_finished(read_state(run.folder)):
            (run.folder / RESUME).unlink(missing_ok=True)  # what goes on has not warmed up
    work([replace(planned, runs=runs)], "timing: ")
    failed = [run for run in runs if not is_finished(read_state(run.folder))]
    if failed:
        lines = [f"{run}: {read_state(run.folder).get('error', 'not over')}; see {run.folder / LOG}" for run in failed]
        raise UserError("\n  ".join(["--minutes: expected to time every method, found", *lines]))
    copies_of = {
        method: [seconds_a_step(run.folder / CURVES) for run in runs if run.method == method] for method in methods
    }
    return {method: round(sum(times) / len(times), 6) for method, times in copies_of.items()}


def _validations(request: Request) -> int | None:
    """How often the bundle's own length is validated."""
    from ..check.values import Values

    words = request.words(request.methods[0], request.seeds[0])
    overrides = parse_overrides(words, Findings())
    return Values(load_config([request.train], overrides, Findings())).get("epochs", int)
