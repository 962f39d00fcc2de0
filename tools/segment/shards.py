"""A share of the cases: what one job of a cluster segments, and how it tells what became of them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json, write_json

from ..common.clusters import submit, wait
from .cases import Case
from .request import Request
from .workers import Tell

# No case has such a name: `cases` takes the dot off.
REPORTS, SUBMITIT = ".shards", ".submitit"


@dataclass(frozen=True)
class Shard:
    """The cases number, number + of, ... of all, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def share(self, cases: Sequence[Case]) -> Sequence[Case]:
        """Its cases."""
        return cases[self.number - 1 :: self.of]

    def report(self, output: Path) -> Path:
        """The file that tells what became of its cases."""
        return output / REPORTS / f"{self.number}_of_{self.of}.json"

    def write(self, output: Path, outcomes: Mapping[str, str | None]) -> None:
        """Write who works on it, and for every case that is over what went wrong, or None."""
        about = {"host": socket.gethostname(), "process": os.getpid()}
        write_json(self.report(output), {**about, "cases": dict(outcomes)}, "the report of a shard")

    def read(self, output: Path) -> dict[str, str | None]:
        """The cases that are over, with what went wrong."""
        path = self.report(output)
        return read_json(path, "report of a shard")["cases"] if path.is_file() else {}


def read_shard(text: str) -> Shard:
    """The shard that a text such as "2/8" names.

    Raises:
        UserError: anything else.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(*map(int, found.groups())) if found else None
    if shard is None or not 1 <= shard.number <= shard.of:
        raise UserError(f"--shard: expected a number and how many there are, such as 1/8 to 8/8, found {text!r}")
    return shard


def segment_on_cluster(
    cases: Sequence[Case],
    request: Request,
    workers: int,
    tell: Tell,
    parameters: Mapping[str, Any],
    cluster: str = "slurm",
) -> None:
    """Submit the cases in shards, a job for each, and wait for them; they go on if the user interrupts this.

    Args:
        cases: what to segment.
        request: what to make of them.
        workers: how many jobs.
        tell: is called with each case when it is over, and with what went wrong, or None.
        parameters: of submitit's AutoExecutor, such as timeout_min, gpus_per_node or slurm_partition.
        cluster: "slurm", or "local", submitit's imitation of it.

    Raises:
        UserError: there is no such cluster here, or it does not take the parameters.
    """
    output = request.output
    shards = [Shard(number, workers) for number in range(1, workers + 1)][: len(cases)]
    for shard in shards:
        shard.report(output).unlink(missing_ok=True)  # of an earlier call
    tasks = {shard: ["tools", "segment", *request.words(), "--shard", str(shard)] for shard in shards}
    jobs = submit(tasks, "segment", workers, output / SUBMITIT, parameters, cluster)
    told: set[str] = set()

    def watch(left: Sequence[Shard]) -> None:
        for shard in shards:
            over = shard.read(output)
            for case in shard.share(cases):
                if case.name in over and case.name not in told:
                    told.add(case.name)
                    tell(case, over[case.name])

    wait({shard: job.done for shard, job in jobs.items()}, watch)
    for shard, job in jobs.items():
        for case in shard.share(cases):
            if case.name not in told:
                tell(case, f"job {job.job_id}, shard {shard}, ended before it ({job.state}); see {job.paths.stderr}")
