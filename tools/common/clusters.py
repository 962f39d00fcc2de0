"""Commands as jobs of a cluster, by submitit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from scripts.errors import UserError, first_line

from .paths import ROOT

POLL = 1.0  # seconds between two looks at the jobs
A_DAY = 24 * 60  # minutes that a job may take, unless the user says so

Task = TypeVar("Task")


def submit(
    tasks: Mapping[Task, Sequence[str]],
    name: str,
    workers: int,
    folder: Path,
    parameters: Mapping[str, Any],
    cluster: str = "slurm",
) -> dict[Task, Any]:
    """Submit tasks as the jobs of one array; they go on if the user interrupts this process.

    Args:
        tasks: the words after `python -m` of each.
        name: of the array.
        workers: how many jobs at the same time.
        folder: for submitit's files; all nodes see it.
        parameters: of submitit's AutoExecutor, such as timeout_min, gpus_per_node or slurm_partition.
        cluster: "slurm", or "local", submitit's imitation of it.

    Returns:
        submitit's job of each task.

    Raises:
        UserError: there is no such cluster here, or it does not take the parameters.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(
            **{"name": name, "timeout_min": A_DAY, "slurm_array_parallelism": workers} | dict(parameters)
        )
        with executor.batch():
            return {
                task: executor.submit(submitit.helpers.CommandFunction([sys.executable, "-m", *words], cwd=ROOT))
                for task, words in tasks.items()
            }
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:  # no cluster, unknown parameters
        raise UserError(f"--executor {cluster}: expected to submit jobs, found: {first_line(error)}") from error


def wait(over: Mapping[Task, Callable[[], bool]], watch: Callable[[Sequence[Task]], None]) -> None:
    """Until all is over; `watch` is called with what is not, once more at the end, so that a display is complete."""
    left = list(over)
    while left:
        left = [task for task in left if not over[task]()]
        watch(left)
        if left:
            time.sleep(POLL)
