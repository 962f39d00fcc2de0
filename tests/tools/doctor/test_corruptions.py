"""The doctor names what is wrong with each of many spoiled data sets, and nothing is wrong with the sound one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tools.doctor.corruptions import CORRUPTIONS
from tools.__main__ import main
from tools.phantom.command import make_phantom


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients' CT, all labelled; the last one tests, the one before validates."""
    folder = tmp_path_factory.mktemp("phantom") / "abdomen"
    make_phantom("abdomen", folder, cases=6, labelled=6, validation=1, test=1, size=(48, 48, 32))
    return folder


def findings(folder: Path, output: Path) -> tuple[int, list[dict[str, str]]]:
    code = main(["doctor", "--dataset", str(folder), "--output", str(output)])
    return code, json.loads((output / "doctor.json").read_text())["findings"]


def test_a_sound_data_set_has_no_finding(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(sound, tmp_path)
    assert found == []
    assert code == 0
    assert "8 cases looked at, 0 errors, 0 warnings, 0 notes" in capsys.readouterr().out


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_named_with_file_severity_and_what_to_do(name: str, sound: Path, tmp_path: Path) -> None:
    corruption = CORRUPTIONS[name]
    folder = tmp_path / "spoiled"
    shutil.copytree(sound, folder)
    corruption.spoil(folder)
    code, found = findings(folder, tmp_path / "out")
    assert code == {"error": 2, "warning": 1, "note": 0}[max((one["severity"] for one in found), key=RANK.index)]
    matching = [
        one
        for one in found
        if (one["severity"], one["kind"]) == (corruption.severity, corruption.kind)
        and corruption.file in one["file"]
        and corruption.words in f"{one['expected']} {one['found']}"
    ]
    assert matching, found
    assert all(one["fix"] and "\n" not in "".join(one.values()) for one in found)
    places = (corruption.file, *TOUCHED)
    assert not [one for one in found if one["kind"] != "changed file" and not any(p in one["file"] for p in places)]


RANK = ("note", "warning", "error")
# What a corruption may touch besides the file that is named: the patients that it copies from and to, and the lists.
TOUCHED = ("abdomen003", "abdomen005", "abdomen008", "datalist.json", "split.json")
