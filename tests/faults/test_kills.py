"""A verb that is killed leaves nothing half-written under a good name, and the same command then ends as ever."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.bundle_runner import Result
from tests.faults.conftest import KILLS, SEED, Jobs, assert_whole, files, may_resume, result

pytestmark = pytest.mark.faults

VERBS = [
    "prepare",
    "phantom",
    "doctor",
    "seeds",
    "table",
    "package",
    "segment",
    "segment by two",
    "training",
    "compare",
]
SLOW = {"compare": 10, "segment by two": 5}  # start processes that import torch: a share of the kills


def children(process: int) -> list[int]:
    """The processes that it started, and those that these did."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # it has ended meanwhile
            for child in map(int, listed.read_text().split()):
                found += [child, *children(child)]
    return found


def command_line(process: int) -> str:
    """The words that a process was started with, or "" if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def is_alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_until_ended(processes: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "a process outlives the one that started it"
        time.sleep(0.05)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_verb_leaves_whole_files_and_ends_the_same_when_run_again(verb: str, jobs: Jobs, tmp_path: Path) -> None:
    unbroken, seconds = jobs.unbroken(verb, tmp_path)
    expected = result(unbroken)
    moments = random.Random(f"{SEED} {verb}")
    output, job, killed = tmp_path / "output", jobs.jobs[verb], 0
    output.mkdir()
    for number in range(max(1, KILLS // SLOW.get(verb, 1))):
        how: dict[str, Any] = {"module": job.module}
        in_write = number % 2 and verb != "compare"  # whose trainings write
        if in_write:  # shortly after it has begun to write, or a moment later than that
            how["end_in_write"] = (str(output), round(math.exp(moments.uniform(0, 4))), moments.uniform(1e-6, 3e-3))
        process = jobs.runner.start(job.command(output, may_resume(output)), job.cwd, **how)
        started: list[int] = []
        if not in_write:
            time.sleep(moments.uniform(0, seconds))
            started = children(process)
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if verb == "compare":  # as when the machine fails: a training that lives on keeps its run locked
            for child in started:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        ended = jobs.runner.finish()
        wait_until_ended(started)
        assert ended.code in (0, -signal.SIGKILL, -signal.SIGALRM) or refuses(verb, ended), ended.error
        killed += ended.code < 0
        assert_whole(output)
    assert killed, "every command ended before it was killed"
    last = jobs.run(verb, output, may_resume(output))
    if not refuses(verb, last):
        last.check()
    assert result(output) == expected
    assert_whole(output)


def refuses(verb: str, ended: Result) -> bool:
    """Whether it is `phantom`, which has ended before, and does not overwrite what it made."""
    return verb == "phantom" and ended.code == 2 and "expected a new or empty folder" in ended.error


def test_process_of_segment_that_is_killed_costs_at_most_its_own_case(jobs: Jobs, tmp_path: Path) -> None:
    unbroken, _ = jobs.unbroken("segment by two", tmp_path)
    job, output = jobs.jobs["segment by two"], tmp_path / "output"
    process = jobs.runner.start(job.command(output), job.cwd, module=job.module)
    deadline = time.monotonic() + 120
    while not any(name.endswith(".nii.gz") for name in files(output)) and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = [child for child in children(process) if "spawn_main" in command_line(child)]
    os.kill(workers[0], signal.SIGKILL)
    ended = jobs.runner.finish()
    assert "Traceback" not in ended.error
    assert ended.code in (0, 1, 2)  # it had no case left, had one, or was still loading the network
    assert (ended.code > 0) == ("killed by signal 9" in ended.out + ended.error)
    assert_whole(output)
    jobs.run("segment by two", output).check()
    assert result(output) == result(unbroken)


def test_training_of_compare_that_is_killed_is_named_and_the_same_command_goes_on(jobs: Jobs, tmp_path: Path) -> None:
    job, output = jobs.jobs["compare"], tmp_path / "output"
    process = jobs.runner.start([*job.command(output), "--seeds", "0,1", "--workers", "2"], job.cwd, module=job.module)
    deadline = time.monotonic() + 120
    while (
        not (started := [one for one in children(process) if "monai.bundle" in command_line(one)])
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    os.kill(started[0], signal.SIGKILL)
    ended = jobs.runner.finish()
    assert ended.code == 1, ended.out + ended.error
    assert "signal 9" in ended.out + ended.error
    assert_whole(output)
    jobs.runner.start([*job.command(output), "--seeds", "0,1", "--workers", "2"], job.cwd, module=job.module)
    jobs.runner.finish().check()
    for seed in ("seed0", "seed1"):
        assert (output / "supervised" / seed / "models" / "model.pt").is_file()
