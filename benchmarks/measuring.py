"""Measures a job: every variant in a process of its own, results compared first, then timed in turn."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.common.paths import ROOT

from .jobs import Job, Result, difference


class BenchError(RuntimeError):
    """A measurement that would mean nothing: a variant failed, or variants of the same job disagree."""


def measure(module: str, job: Job, repeats: int) -> dict[str, Any]:
    """Seconds, processor seconds and memory of each variant of a job, and what they are to the baseline's.

    The first round warms up, and its results are compared. Then the variants take turns, so that what else the machine
    does meets all of them alike.

    Args:
        module: the job's module, which the processes of the variants import.
        job: what to measure.
        repeats: rounds that are timed, 1 or more.

    Raises:
        BenchError: the variants disagree, or one failed (its own words are on stderr).
    """
    with tempfile.TemporaryDirectory(prefix="bench_") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        job.prepare(folder)
        workers = [stack.enter_context(_worker(module, job.name, variant.name, folder)) for variant in job.variants]
        warm = [worker.run() for worker in workers]
        for variant, answer in zip(job.variants, warm, strict=True) if job.amounts is None else []:
            told = difference(answer["result"], warm[0]["result"], job.tolerance)
            if told:
                raise BenchError(f"{job.name}: {variant.name!r} disagrees with {job.variants[0].name!r}: {told}")
        rounds = [[worker.run() for worker in workers] for _ in range(repeats)]
    names = [variant.name for variant in job.variants]
    measured = {
        name: {
            "seconds": spread([one["seconds"] for one in answers]),
            "processor_seconds": spread([one["processor_seconds"] for one in answers]),
            "loaded_mib": worker.loaded_mib,
            "peak_mib": answers[-1]["peak_mib"],
        }
        for name, worker, answers in zip(names, workers, zip(*rounds, strict=True), strict=True)
    }
    about = {"tolerance": job.tolerance, "result": _without_nan(warm[0]["result"])}
    return {**about, "variants": measured, **compared(measured), **grown(job, measured), **goal(job, measured)}


def compared(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many times faster than the first variant each other one is, and what share of its peak memory it takes."""
    base, *others = measured
    ratios = {}
    for name in others:
        mine, its = measured[name], measured[base]
        peaks = (mine["peak_mib"], its["peak_mib"])
        ratios[name] = {
            "speedup_of_minimum": its["seconds"]["minimum"] / mine["seconds"]["minimum"],
            "speedup_of_median": its["seconds"]["median"] / mine["seconds"]["median"],
            "speedup_of_processor": its["processor_seconds"]["minimum"] / mine["processor_seconds"]["minimum"],
            "share_of_peak": None if None in peaks else peaks[0] / peaks[1],
        }
    return {"baseline": base, "ratios": ratios}


def grown(job: Job, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The exponents with which seconds and memory grow with the job's amounts, by least squares of the logarithms.

    Seconds are the minimum's; memory is the peak less what was loaded before. None where there is none to tell.
    """
    if job.amounts is None:
        return {}
    seconds = [one["seconds"]["minimum"] for one in measured.values()]
    known = all(one["peak_mib"] is not None for one in measured.values())
    memory = [one["peak_mib"] - one["loaded_mib"] for one in measured.values()] if known else []
    return {"exponents": {"seconds": _slope(job.amounts, seconds), "memory": _slope(job.amounts, memory)}}


def _slope(amounts: Sequence[float], values: Sequence[float]) -> float | None:
    if not values or min(values) <= 0:
        return None
    x, y = ([math.log(value) for value in numbers] for numbers in (amounts, values))
    return statistics.linear_regression(x, y).slope


def goal(job: Job, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The job's goal, and whether the last variant reached it: faster by minimum and median, seconds once."""
    its, mine = (measured[job.variants[index].name] for index in (0, -1))
    base, last = its["seconds"], mine["seconds"]
    # Whatever else a machine does spares a short variant in one round, and so flatters its minimum.
    speedup = min(base[kind] / last[kind] for kind in ("minimum", "median"))
    peaks = (mine["peak_mib"], its["peak_mib"])
    exponents = grown(job, measured).get("exponents", {})
    reached = (
        (job.goal_speedup is None or speedup >= job.goal_speedup)
        and (job.goal_seconds is None or last["minimum"] <= job.goal_seconds)
        and (job.goal_exponent is None or max(exponent or 0 for exponent in exponents.values()) <= job.goal_exponent)
        and (job.goal_peak is None or (None not in peaks and peaks[0] <= job.goal_peak * peaks[1]))
    )
    kinds = ("speedup", "seconds", "peak", "exponent")
    return {"goal": {**{kind: getattr(job, f"goal_{kind}") for kind in kinds}, "reached": reached}}


def _without_nan(result: Result) -> Result:
    """The result with None in the place of nan, which JSON does not know."""
    if isinstance(result, dict):
        return {key: _without_nan(value) for key, value in result.items()}
    if isinstance(result, list):
        return [_without_nan(value) for value in result]
    return None if result != result else result


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Their minimum and median, and all of them."""
    return {"minimum": min(values), "median": statistics.median(values), "all": list(values)}


class _Worker:
    """The parent's end of a variant's process."""

    def __init__(self, process: subprocess.Popen[str], what: str) -> None:
        self.process, self.what = process, what
        self.loaded_mib = self._answer()["loaded_mib"]

    def run(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told below
            print(file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            if code == -signal.SIGKILL:
                raise BenchError(f"{self.what} was killed, as it happens where memory runs out")
            raise BenchError(f"{self.what} failed with exit code {code}; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def _worker(module: str, job: str, variant: str, folder: Path) -> Iterator[_Worker]:
    command = [sys.executable, "-m", "benchmarks.worker", module, job, variant, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield _Worker(process, f"{job}: {variant!r}")
        finally:
            process.kill()
