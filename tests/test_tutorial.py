"""docs/tutorial.md does what it says: its commands run in order, and print and write what the page shows."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from tests.bundle_runner import ENVIRONMENT, ROOT

BLOCK = re.compile(r"^```(bash|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<=_)[0-9a-f]{6}\b|\d[\d.]*")  # the last digits are the processor's
HEART = {"right ventricle", "myocardium", "left ventricle"}

Step = tuple[str, str, str]  # a command of the page, what the page says it prints, what it prints


def lines(text: str) -> list[str]:
    return [NUMBER.sub("#", line).strip() for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout after `make setup`."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name in ("bundles", "tools"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[Step]:
    """Every command of the page, run one after the other; the first that fails ends it."""
    done: list[Step] = []
    for kind, text in BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        if kind == "text":
            done[-1] = (done[-1][0], text, done[-1][2])
            continue
        environment = ENVIRONMENT | {"PYTHONWARNINGS": "ignore", "PATH": os.defpath}
        command = ["bash", "-euo", "pipefail", "-c", text]
        ended = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert ended.returncode == 0, f"{text}\n{ended.stdout}"
        done.append((text, "", ended.stdout.replace(str(folder), "...")))
    return done


def test_every_command_prints_what_the_page_shows(steps: list[Step]) -> None:
    assert sum(bool(shown) for _, shown, _ in steps) >= 6
    for command, shown, printed in steps:
        missing = [line for line in lines(shown) if line not in lines(printed)]
        assert missing == [], f"{command}\n{printed}"


def test_the_commands_leave_the_files_that_the_page_names(steps: list[Step], folder: Path) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(runs/tutorial[\w./-]*)`", page))
    assert len(named) >= 4
    assert [path for path in sorted(named) if not (folder / path).exists()] == []
    with (folder / "runs" / "tutorial" / "curves.csv").open(newline="", encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["30", "60"]


def test_the_dicom_segs_name_structures_of_the_heart(steps: list[Step], folder: Path) -> None:
    for phase in ("ED", "ES"):
        (path,) = folder.glob(f"runs/tutorial/dicom/*/{phase}_segmentation.dcm")
        seg = pydicom.dcmread(path)
        assert seg.Modality == "SEG"
        found = {segment.SegmentLabel for segment in seg.SegmentSequence}
        assert "left ventricle" in found <= HEART
        assert seg.pixel_array.any()
