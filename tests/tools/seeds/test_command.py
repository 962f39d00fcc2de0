"""`python -m tools seeds`: the folders of several evaluations in, one table out."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.scoring.tables import case_rows, write_scores_csv
from tools.__main__ import main

ROOT = Path(__file__).parents[3]
KINDS = {"native_mm": ("mm", "strict"), "protocol_voxels": ("voxels of 16x16x8", "fixed128")}


def evaluation(folder: Path, *dice: float, cases: str = "ab", kinds: tuple[str, ...] = tuple(KINDS)) -> Path:
    """A folder as an evaluation writes it: dice of each class in all cases, asd ten times as much."""
    for kind in kinds:
        unit, policy = KINDS[kind]
        scores = {"dice": np.array(dice), "asd": 10 * np.array(dice), "empty": np.full(len(dice), "")}
        rows = [row for case in cases for row in case_rows(case, scores, unit, policy, {1: "liver", 2: "spleen"})]
        write_scores_csv(folder / f"scores_{kind}.csv", rows)
        write_scores_csv(folder / f"summary_{kind}.csv", rows)  # not to be taken for scores
    return folder


def seeds(*folders: Path, output: Path) -> int:
    return main(["seeds", *map(str, folders), "--output", str(output)])


def test_table_has_mean_and_population_deviation_over_the_folders_for_each_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [evaluation(tmp_path / f"s{i}", *dice) for i, dice in enumerate([(0.9, 0.1), (0.6, 0.4), (0.6, 0.1)])]
    assert seeds(*folders, output=tmp_path / "table.csv") == 0
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    columns = "scores class name dice dice_std asd asd_std unit cases seeds left_out policy"
    assert rows[0] == columns.split()
    numbers = [[0.7, math.sqrt(0.02)], [0.2, math.sqrt(0.02)], [0.45, math.sqrt(0.005)]]
    names = [["1", "liver"], ["2", "spleen"], ["average", ""]]
    expected = [
        [kind, *name, *(f"{v:.6f}" for v in (*values, *(10 * v for v in values))), unit, "2", "3", "0", policy]
        for kind, (unit, policy) in KINDS.items()
        for name, values in zip(names, numbers, strict=True)
    ]
    assert rows[1:] == expected
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        "native_mm: mean (population standard deviation) over 3 seeds; 2 cases, distances in mm, "
        "empty masks by policy strict"
    )
    assert printed[2].split() == ["liver", "0.7000", "(0.1414)", "7.0000", "(1.4142)"]
    assert printed[4].split() == ["average", "0.4500", "(0.0707)", "4.5000", "(0.7071)"]
    assert "voxels of 16x16x8" in printed[5]
    assert printed[-1] == f"wrote {tmp_path / 'table.csv'}"


def assert_refused(capsys: pytest.CaptureFixture[str], output: Path, *parts: str) -> None:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in parts), error
    assert not output.exists()


def test_folders_without_scores_are_all_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    folders = [evaluation(tmp_path / "s0", 0.9, 0.1), tmp_path / "empty", tmp_path / "missing"]
    assert seeds(*folders, output=tmp_path / "table.csv") == 2
    assert_refused(
        capsys, tmp_path / "table.csv", f"{folders[1]}, {folders[2]}: expected scores_native_mm.csv, found none"
    )
    assert seeds(*folders[1:], output=tmp_path / "table.csv") == 2
    assert_refused(capsys, tmp_path / "table.csv", f"{folders[1]}, {folders[2]}: expected scores_*.csv, found none")


def test_folder_that_lacks_one_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [evaluation(tmp_path / "s0", 0.9, 0.1), evaluation(tmp_path / "s1", 0.9, 0.1, kinds=("native_mm",))]
    assert seeds(*folders, output=tmp_path / "table.csv") == 2
    assert_refused(capsys, tmp_path / "table.csv", f"{folders[1]}: expected scores_protocol_voxels.csv, found none")


def test_folders_with_other_cases_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [evaluation(tmp_path / "s0", 0.9, 0.1), evaluation(tmp_path / "s1", 0.9, 0.1, cases="abc")]
    assert seeds(*folders, output=tmp_path / "table.csv") == 2
    assert_refused(capsys, tmp_path / "table.csv", "same cases", str(folders[0]), f"found c in {folders[1]}")


def test_folder_given_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = evaluation(tmp_path / "s0", 0.9, 0.1)
    assert seeds(folder, tmp_path / "s0" / ".." / "s0", output=tmp_path / "table.csv") == 2
    assert_refused(capsys, tmp_path / "table.csv", "expected each run once", str(folder))


def test_broken_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [evaluation(tmp_path / f"s{i}", 0.9, 0.1) for i in range(2)]
    (folders[1] / "scores_native_mm.csv").write_text("case,class\na,1\n")
    assert seeds(*folders, output=tmp_path / "table.csv") == 2
    assert_refused(capsys, tmp_path / "table.csv", str(folders[1] / "scores_native_mm.csv"), "no column name")


def test_verb_imports_nothing_heavy(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "s0", 0.9, 0.1)
    code = (
        "import sys; from tools.__main__ import main\n"
        f"assert main(['seeds', {str(folder)!r}, '--output', {str(tmp_path / 'table.csv')!r}]) == 0\n"
        "print(sorted({'torch', 'monai', 'numpy', 'nibabel'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
