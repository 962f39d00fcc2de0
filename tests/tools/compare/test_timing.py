"""`compare --minutes`: equal time in place of equal steps, by a short training of every method."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.trainings import Compare, Trainings


def about(output: Path, method: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((output / method / "seed0" / "run.json").read_text())
    return found


def timed(trainings: Trainings) -> list[dict[str, str]]:
    return [options for options in trainings.options if "/timing/" in options["run_dir"]]


@pytest.fixture
def minutes(compare: Compare, trainings: Trainings) -> Compare:
    """Half a minute of methods whose steps take half a second and two seconds; the preset has 5 validations."""
    trainings.pace = {"supervised": 0.5, "cps": 2.0}

    def run(methods: str, *words: object, **options: object) -> tuple[int, str, str]:
        given = {"steps": None, "settings": ("val_steps=300",)} | options
        return compare(methods, *(words or ("--minutes", 0.5)), **given)

    return run


def test_methods_have_as_many_steps_as_fit_and_are_validated_alike(
    minutes: Compare, trainings: Trainings, output: Path
) -> None:
    code, printed, _ = minutes("supervised,cps")
    assert code == 0
    assert "timing: 2 runs" in printed
    assert [(about(output, m)["steps"], about(output, m)["shared"]["minutes"]) for m in ("supervised", "cps")] == [
        *((60, 0.5), (15, 0.5)),
    ]
    assert "steps" not in about(output, "cps")["shared"]
    trained = [options for options in trainings.options if "/timing/" not in options["run_dir"]]
    assert {(options["method"], options["steps"], options["epochs"]) for options in trained} == {
        *(("supervised", "60", "5"), ("cps", "15", "5")),
    }


def test_a_method_is_timed_by_its_own_training_without_validation_and_after_a_warm_up(
    minutes: Compare, trainings: Trainings, output: Path
) -> None:
    minutes("cps,supervised")
    first, second = timed(trainings)
    assert [first["method"], second["method"]] == ["cps", "supervised"]
    assert (first["steps"], first["epochs"], first["val_interval"]) == ("30", "3", "30")
    assert first["image_size"] == "[32,32]"  # in the settings of the comparison
    record = json.loads((output / "timing.json").read_text())
    assert record["seconds"] == {"recommended": {"cps": 2.0, "supervised": 0.5}}
    assert record["measured"]["workers"] == 1
    assert {"machine", "processors", "threads", "gpus"} <= record["measured"].keys()


def test_what_is_timed_is_not_timed_again(minutes: Compare, trainings: Trainings, output: Path) -> None:
    minutes("supervised")
    trainings.pace = {}
    assert minutes("supervised,cps", "--minutes", 0.5, "--seeds", "0,1")[0] == 0
    assert [options["method"] for options in timed(trainings)] == ["supervised", "cps"]
    assert about(output, "supervised")["steps"] == 60
    assert json.loads((output / "timing.json").read_text())["seconds"]["recommended"] == {"supervised": 0.5, "cps": 1.0}


def test_with_several_workers_a_method_is_timed_beside_itself(minutes: Compare, trainings: Trainings) -> None:
    minutes("supervised,cps", "--minutes", 0.5, "--workers", 2)
    assert [options["method"] for options in timed(trainings)] in (
        ["supervised", "supervised", "cps", "cps"],
        ["supervised", "cps", "supervised", "cps"],  # the first to write down its call may be the later one
    )
    assert {options["seed"] for options in timed(trainings)} == {"0", "1"}


def test_a_method_is_not_timed_in_other_conditions_than_those_that_are_there(
    minutes: Compare, trainings: Trainings, output: Path
) -> None:
    minutes("supervised")
    trainings.calls.clear()
    code, _, error = minutes("supervised,cps", "--minutes", 0.5, "--workers", 2)
    assert (code, trainings.calls) == (2, [])
    assert f"{output / 'timing.json'}: expected to time cps like the methods that are there" in error
    assert "workers 1 there, 2 here" in error
    assert minutes("supervised", "--minutes", 0.5, "--seeds", "1", "--workers", 2)[0] == 0  # nothing is timed


def test_a_timing_that_fails_is_named_and_begins_anew(
    minutes: Compare, trainings: Trainings, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings.faults = {"cps training": "error: out of memory"}
    code, _, error = minutes("supervised,cps")
    assert code == 2
    assert "--minutes: expected to time every method, found" in error
    assert "cps, timing, recommended, seed 0: error: out of memory; see" in error
    folder = output / "timing" / "recommended" / "cps" / "seed0"
    assert (folder / "resume.pt").exists()
    found: list[bool] = []
    train = Trainings.__call__

    def look(self: Trainings, *words: Any) -> int:
        found.append((folder / "resume.pt").exists())
        return train(self, *words)

    trainings.faults = {}
    monkeypatch.setattr(Trainings, "__call__", look)
    assert minutes("supervised,cps")[0] == 0
    assert found[0] is False  # what goes on has not warmed up


def test_another_time_than_that_of_the_runs_is_refused(minutes: Compare, trainings: Trainings) -> None:
    minutes("supervised")
    code, _, error = minutes("supervised", "--minutes", 1)
    assert code == 2
    assert "minutes 0.5 there, 1.0 here" in error


def test_steps_and_minutes_exclude_each_other(compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare("supervised", "--minutes", 1)
    assert "not allowed with argument --steps" in capsys.readouterr().err


def test_no_time_is_no_time(compare: Compare) -> None:
    assert "--minutes: expected a number above 0, found 0" in compare("supervised", "--minutes", 0, steps=None)[2]


def test_the_table_tells_the_time_and_the_steps(minutes: Compare, output: Path, table: Callable[..., str]) -> None:
    minutes("supervised,cps")
    text = table()
    assert "labelled, 0.5 minutes of steps each, preset cpu" in text
    assert re.search(
        r"- equal time, in steps as timed before the runs \(timing.json\).*: cps 15, supervised 60\n", text
    )
