"""Where the runs of a comparison are worked on: in processes of this machine, or as jobs of a cluster."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from scripts.errors import UserError, first_line

from .runs import ROOT, Launcher, Processes, perform
from .state import FAILED, Run, held, is_finished, now, read_state, write_state

POLL = 1.0  # seconds between two looks at the runs
SUBMITIT = "submitit"  # folder of what submitit writes
A_DAY = 24 * 60  # minutes that a job may take, unless the user says so


def run_here(
    runs: Sequence[Run],
    test: bool,
    workers: int,
    watch: Callable[[Sequence[Run]], None],
    launcher: Launcher | None = None,
) -> None:
    """Work on the runs with several workers; end what runs if the user interrupts.

    Args:
        runs: in the order of their start.
        test: score the test set, too.
        workers: how many at the same time; several share the processors.
        watch: is called again and again with the runs that are not over.
        launcher: starts the commands.
    """
    launcher = launcher or Processes()
    pool = ThreadPoolExecutor(workers)
    threads = max(1, len(os.sched_getaffinity(0)) // workers) if workers > 1 else None
    pending = {run: pool.submit(perform, run.folder, launcher, test, threads) for run in runs}
    try:
        _wait({run: partial(_ended, future) for run, future in pending.items()}, watch)
    except BaseException:
        launcher.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run_on_cluster(
    runs: Sequence[Run],
    test: bool,
    workers: int,
    watch: Callable[[Sequence[Run]], None],
    output: Path,
    parameters: Mapping[str, Any],
    cluster: str = "slurm",
) -> None:
    """Submit the runs as jobs and wait for them; they go on if the user interrupts this.

    Args:
        runs, test, watch: see `run_here`.
        workers: how many jobs at the same time.
        output: folder of the comparison, which all nodes see.
        parameters: of submitit's AutoExecutor, such as timeout_min, gpus_per_node or slurm_partition.
        cluster: "slurm", or "local", submitit's imitation of it.

    Raises:
        UserError: there is no such cluster here, or it does not take the parameters.
    """
    import submitit

    word = ["--test"] if test else []
    try:
        executor = submitit.AutoExecutor(folder=output / SUBMITIT, cluster=cluster)
        executor.update_parameters(
            **{"name": "compare", "timeout_min": A_DAY, "slurm_array_parallelism": workers} | dict(parameters)
        )
        with executor.batch():
            jobs = {}
            for run in runs:
                command = [sys.executable, "-m", "tools.comparing", str(run.folder), *word]
                jobs[run] = executor.submit(submitit.helpers.CommandFunction(command, cwd=ROOT))
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:  # no cluster, unknown parameters
        raise UserError(f"--executor {cluster}: expected to submit jobs, found: {first_line(error)}") from error
    _wait({run: job.done for run, job in jobs.items()}, watch)
    for run, job in jobs.items():
        state = read_state(run.folder)
        if state.get("state") == FAILED or is_finished(state, test):
            continue
        with held(run.folder) as lock:
            if lock is not None:
                found = f"the job ended before the run did ({job.state}); see {job.paths.stderr}"
                write_state(run.folder, state=FAILED, error=found, finished=now())


def _wait(over: Mapping[Run, Callable[[], bool]], watch: Callable[[Sequence[Run]], None]) -> None:
    """Until all is over; once more at the end, so that the display is complete."""
    left = list(over)
    while left:
        left = [run for run in left if not over[run]()]
        watch(left)
        if left:
            time.sleep(POLL)


def _ended(future: Future[str]) -> bool:
    """Whether it ended; a fault of the program is raised here."""
    if future.done():
        future.result()
    return future.done()
