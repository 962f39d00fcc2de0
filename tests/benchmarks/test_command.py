"""The verb `bench`: its file, its table, what it refuses."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import SUBJECTS
from benchmarks.jobs import Job, load_jobs
from tests.benchmarks import subject
from tools.__main__ import run_command

Bench = Callable[..., tuple[int, str, str]]


def call(words: list[str]) -> int:
    """The command, as its command line calls it."""
    return run_command("benchmarks.command", "benchmarks.command", "", words)


JOBS = {job.name: job for job in subject.JOBS}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs the verb on jobs of the test subject: the exit code, and what it printed on stdout and stderr."""

    def run(jobs: list[Job], *words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("benchmarks.command.SUBJECTS", {"made_up": subject.__name__})
        monkeypatch.setattr("benchmarks.command.load_jobs", lambda module: jobs)
        code = call(["--output", str(tmp_path / "bench.json"), *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_file_tells_machine_versions_commit_and_numbers(bench: Bench, tmp_path: Path) -> None:
    code, out, _ = bench([JOBS["agree"]], "--only", "made_up", "--repeats", 2)
    assert code == 0
    content = json.loads((tmp_path / "bench.json").read_text())
    assert set(content) == {"date", "commit", "dirty", "machine", "versions", "repeats", "jobs", "failed"}
    assert set(content["machine"]) == {"processor", "cores", "memory_gib", "threads", "load_average", "system"}
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["memory_gib"] > 0
    assert content["versions"]["python"] == platform.python_version()
    assert all(content["versions"].values())
    assert content["repeats"] == 2
    measured = content["jobs"]["agree"]
    assert set(measured) == {"tolerance", "result", "variants", "baseline", "ratios", "goal"}
    assert list(measured["variants"]) == ["variant 0", "variant 1"]
    for variant in measured["variants"].values():
        assert set(variant) == {"seconds", "processor_seconds", "loaded_mib", "peak_mib"}
    assert measured["goal"] == {"speedup": None, "seconds": 100, "peak": None, "exponent": None, "reached": True}
    lines = out.splitlines()
    assert [len(line.split("|")) for line in lines] == [11] * 4
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| agree", "variant 0"], ["| agree", "variant 1"]]
    assert "at most 100 s: reached" in lines[-1]


def test_disagreement_ends_with_1_and_leaves_numbers_of_the_other_jobs_alone(bench: Bench, tmp_path: Path) -> None:
    code, out, error = bench([JOBS["disagree"], JOBS["agree"]], "--repeats", 1)
    assert code == 1
    assert "error: disagree: 'variant 1' disagrees with 'variant 0'" in error
    assert "| agree |" in out
    assert "disagree" not in out
    content = json.loads((tmp_path / "bench.json").read_text())
    assert list(content["jobs"]) == ["agree"]
    assert list(content["failed"]) == ["disagree"]
    assert content["failed"]["disagree"].startswith("disagree: 'variant 1' disagrees")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "scorin"], "--only: expected a known value, found 'scorin'; did you mean 'scoring'?"),
        (["--only", "scoring,"], "--only: expected a known value, found ''"),
        (["--repeats", "0"], "--repeats: expected at least 1, found 0"),
        (["--output", "."], ".: expected a file to write, found a folder"),
    ],
)
def test_mistakes_in_the_arguments_are_told_before_anything_is_measured(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.command.measure", lambda *_: pytest.fail("measured"))
    assert call(["--output", str(tmp_path / "bench.json"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_missing_package_is_told_before_anything_is_measured(bench: Bench) -> None:
    job = subject.job("job", subject.fails, needs=["json", "no_such_package"])
    code, _, error = bench([JOBS["agree"], job])
    assert code == 2
    assert error == "error: job: expected the package no_such_package, found none; call make setup-dev\n"


def test_jobs_and_variants_have_names_of_their_own() -> None:
    jobs = [job for module in SUBJECTS.values() for job in load_jobs(module)]
    assert len({job.name for job in jobs}) == len(jobs)
    assert all(len({variant.name for variant in job.variants}) == len(job.variants) >= 2 for job in jobs)
