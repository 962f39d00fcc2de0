"""`--device cuda`: its file, its table, what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks.gpu import SUBJECTS, command
from benchmarks.gpu.sheet import Sheet, table
from benchmarks.gpu.timing import Clock
from benchmarks.measuring import spread
from tools.__main__ import run_command

CLOCK = Clock(torch.device("cpu"), rounds=1, seconds=0)


def fails() -> dict[str, float]:
    raise RuntimeError("no such kernel\nand more of it")


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Two subjects; the second one is cut off after a row."""

    def one(sheet: Sheet, clock: Clock) -> None:
        sheet.row("step", lambda: {"ms": spread([2.0, 1.0]), "peak_gib": 0.5})
        sheet.row("bad", fails)
        sheet.goal("a share", 0.4, 0.5)

    def two(sheet: Sheet, clock: Clock) -> None:
        sheet.row("first", lambda: {"ms": spread([3.0])})
        raise KeyboardInterrupt

    made = {}
    for name, rows in (("one", one), ("two", two)):
        made[name] = ModuleType(f"made_up_{name}")
        made[name].rows = rows  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"made_up_{name}", made[name])
    monkeypatch.setattr(command, "SUBJECTS", {name: f"made_up_{name}" for name in made})
    return made


@pytest.mark.usefixtures("subjects")
def test_a_bench_that_is_cut_off_leaves_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        command.measure(["one", "two"], CLOCK, tmp_path / "bench.json", {"commit": "none"})
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["commit"] == "none"
    assert content["complete"] is False
    assert list(content["subjects"]["one"]) == ["rows", "goals", "seconds"]
    assert content["subjects"]["one"]["rows"]["step"]["ms"] == {"minimum": 1.0, "median": 1.5, "all": [2.0, 1.0]}
    assert content["subjects"]["two"]["rows"] == {"first": {"ms": {"minimum": 3.0, "median": 3.0, "all": [3.0]}}}


@pytest.mark.usefixtures("subjects")
def test_a_row_that_fails_ends_with_1_and_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.measure(["one"], CLOCK, tmp_path / "bench.json", {}) == 1
    out, error = capsys.readouterr()
    assert "| one | bad |  |  | error RuntimeError: no such kernel |" in out.splitlines()
    assert "one: bad: error RuntimeError: no such kernel" in error.splitlines()
    assert json.loads((tmp_path / "bench.json").read_text())["complete"] is True


def test_a_subject_that_fails_lets_the_others_go_on(tmp_path: Path, subjects: dict[str, ModuleType]) -> None:
    subjects["two"].rows = lambda sheet, clock: fails()  # type: ignore[attr-defined]
    assert command.measure(["two", "one"], CLOCK, tmp_path / "bench.json", {}) == 1
    content = json.loads((tmp_path / "bench.json").read_text())["subjects"]
    assert content["two"]["rows"] == {"all that is missing": {"error": "RuntimeError: no such kernel"}}
    assert "step" in content["one"]["rows"]


def test_table_tells_times_memory_and_goals() -> None:
    sheet = Sheet("training")
    sheet.row("DCA", lambda: {"ms": spread([4.0, 6.0, 5.25]), "peak_gib": 1.234, "graph": "yes"})
    sheet.goal("ms of a step", 5.25, 6)
    sheet.goal("a share", 0.3, 0.25)
    lines = table({"training": sheet.content()}).splitlines()
    assert lines[2] == "| training | DCA | 4 (5.25) | 1.23 | graph yes |"
    assert lines[-2:] == ["| ms of a step | 6 | 5.25 | reached |", "| a share | 0.25 | 0.3 | **missed** |"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "--device: expected one of this machine (cpu), found cuda; "),
        (["--device", "gpu"], "--device: expected a device such as cpu or cuda:0, found 'gpu'; "),
        (["--device", "cuda", "--only", "startup"], "--only: expected a known value, found 'startup'; "),
        (["--only", "methods"], "--only: expected a known value, found 'methods'; "),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("benchmarks.command", "", "", ["--output", str(tmp_path / "bench.json"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_subject_has_rows() -> None:
    assert all(callable(__import__(path, fromlist=["rows"]).rows) for path in SUBJECTS.values())


@pytest.mark.parametrize(
    ("printed", "code", "found"), [("580.1\n580.1\n", 0, "580.1"), ("No devices were found\n", 9, None), ("", 0, None)]
)
def test_driver_is_told_by_nvidia_smi_or_not_at_all(
    printed: str, code: int, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{printed}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert command.driver() == found
