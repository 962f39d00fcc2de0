"""Where the runs of a comparison are worked on: in processes of this machine, or as jobs of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ..common.clusters import submit, wait
from ..common.gpus import Gpus
from .runs import Launcher, Processes, perform
from .state import FAILED, Run, held, is_finished, now, read_state, write_state

SUBMITIT = "submitit"  # folder of what submitit writes


def run_here(
    runs: Sequence[Run],
    test: bool,
    workers: int,
    watch: Callable[[Sequence[Run]], None],
    launcher: Launcher | None = None,
    gpus: Gpus | None = None,
) -> None:
    """Work on the runs with several workers; end what runs if the user interrupts.

    Args:
        runs: in the order of their start.
        test: score the test set, too.
        workers: how many at the same time; several share the processors.
        watch: is called again and again with the runs that are not over.
        launcher: starts the commands.
        gpus: the runs take them by turns; None leaves the choice to each.
    """
    launcher, gpus = launcher or Processes(), gpus or Gpus()
    pool = ThreadPoolExecutor(workers)
    threads = max(1, len(os.sched_getaffinity(0)) // workers) if workers > 1 else None

    def work(run: Run) -> str:
        with gpus.one() as variables:
            return perform(run.folder, launcher, test, threads, variables)

    pending = {run: pool.submit(work, run) for run in runs}
    try:
        wait({run: partial(_ended, future) for run, future in pending.items()}, watch)
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
        runs: what to train.
        test: score the test set, too.
        workers: how many jobs at the same time.
        watch: is called again and again with the runs that are not over.
        output: folder of the comparison, which all nodes see.
        parameters: of submitit's AutoExecutor, such as timeout_min, gpus_per_node or slurm_partition.
        cluster: "slurm", or "local", submitit's imitation of it.

    Raises:
        UserError: there is no such cluster here, or it does not take the parameters.
    """
    word = ["--test"] if test else []
    tasks = {run: ["tools.compare", str(run.folder), *word] for run in runs}
    jobs = submit(tasks, "compare", workers, output / SUBMITIT, parameters, cluster)
    wait({run: job.done for run, job in jobs.items()}, watch)
    for run, job in jobs.items():
        state = read_state(run.folder)
        if state.get("state") == FAILED or is_finished(state, test):
            continue
        with held(run.folder) as lock:
            if lock is not None:
                found = f"the job ended before the run did ({job.state}); see {job.paths.stderr}"
                write_state(run.folder, state=FAILED, error=found, finished=now())


def _ended(future: Future[str]) -> bool:
    """Whether it ended; a fault of the program is raised here."""
    if future.done():
        future.result()
    return future.done()
