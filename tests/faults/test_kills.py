"""A verb that is killed leaves nothing half-written under a good name, and the same command then ends as ever."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from string import ascii_letters
from typing import Any

import pytest
import torch

from tests.bundle_runner import ROOT, Result
from tests.faults.conftest import KILLS, SEED, VERBS, Jobs, assert_whole, files, may_resume, result
from tools.demo.command import MARK

pytestmark = pytest.mark.faults


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


def end_all_of(folder: Path) -> None:
    """End every process that a killed one has started for its folder, as when the machine fails."""
    for path in Path("/proc").glob("[0-9]*"):
        if str(folder) in command_line(int(path.name)):
            with suppress(ProcessLookupError):
                os.kill(int(path.name), signal.SIGKILL)
            wait_until_ended([int(path.name)])


def wait_until_ended(processes: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "a process outlives the one that started it"
        time.sleep(0.05)


@pytest.mark.parametrize("verb", [*VERBS, "segment by two"])
def test_killed_verb_leaves_whole_files_and_ends_the_same_when_run_again(verb: str, jobs: Jobs, tmp_path: Path) -> None:
    unbroken, seconds = jobs.unbroken(verb, tmp_path)
    expected = result(unbroken)
    moments = random.Random(f"{SEED} {verb}")
    output, job, killed = tmp_path / "output", jobs.jobs[verb], 0
    output.mkdir()
    for number in range(KILLS):
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
        ended = jobs.runner.finish()
        if verb in ("compare", "demo"):  # whose trainings would live on
            end_all_of(output)
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


def test_label_that_is_killed_before_any_move_keeps_the_model_that_was_trained_in_its_folder(
    jobs: Jobs, tmp_path: Path
) -> None:
    output, words = tmp_path / "output", jobs.jobs["label"].command(tmp_path / "output")
    jobs.run("label", output).check()
    weights = output / "server" / "model" / "dca_acdc" / "models" / "model.pt"
    trained = torch.load(weights)
    trained[next(iter(trained))] += 1
    torch.save(trained, weights)
    content = weights.read_bytes()
    model = words.index("--model")
    again = words[:model] + words[model + 2 :]
    codes = [-signal.SIGALRM]
    while codes[-1]:
        how = {"end_in_write": (str(output), len(codes), 0, "os.rename")}
        jobs.runner.start(again, ROOT, module="tools", **how)
        codes.append(jobs.runner.finish().code)
    assert set(codes[:-1]) == {-signal.SIGALRM}
    assert len(codes) > 3
    assert weights.read_bytes() == content


def test_demo_clears_its_folder_but_for_the_mark_by_which_it_knows_it_again(jobs: Jobs, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    for letter in ascii_letters:
        (output / letter).mkdir(parents=True)
    (output / MARK).touch()
    in_removal = {"end_in_write": (MARK, 1, 0, "os.remove")}
    jobs.runner.start(["demo", "--steps", "0", "--output", str(output)], ROOT, module="tools", **in_removal)
    assert jobs.runner.finish().code == 2  # not killed, but told that 0 steps are none
    assert (output / MARK).exists()
    assert not any((output / letter).exists() for letter in ascii_letters)


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
