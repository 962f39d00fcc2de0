import csv
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.metrics import case_scores
from scripts.score_tables import case_rows, summarise, write_scores_csv

NAMES = {1: "liver", 2: "left adrenal"}


def scores(dice, asd, empty=("", "")):
    return {"dice": np.array(dice), "asd": np.array(asd), "empty": np.array(empty)}


@pytest.fixture
def rows():
    return [
        *case_rows("a", scores([0.9, 0.5], [1.0, 4.0]), "voxels", "strict", NAMES),
        *case_rows("b", scores([0.7, 0.0], [3.0, 50.0], ("", "prediction")), "voxels", "strict", NAMES),
        *case_rows("c", scores([0.8, math.nan], [2.0, math.nan], ("", "both")), "voxels", "strict", NAMES),
    ]


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_rows_hold_case_class_scores_unit_side_and_policy():
    prediction, label = np.zeros((2, 4, 4), int)
    label[1, 1] = 2
    prediction[0] = label[0] = 1
    rows = case_rows("p1", case_scores(prediction, label, 2, empty="zero"), "voxels", "zero", NAMES)
    assert list(rows[0]) == ["case", "class", "name", "dice", "jaccard", "hd95", "asd", "unit", "empty", "policy"]
    assert list(rows[0].values()) == ["p1", 1, "liver", 1, 1, 0, 0, "voxels", "", "zero"]
    assert list(rows[1].values()) == ["p1", 2, "left adrenal", 0, 0, 0, 0, "voxels", "prediction", "zero"]


def test_summary_is_the_mean_over_cases_then_classes_and_counts_what_the_policy_decided(rows):
    liver, adrenal, average = summarise(rows)
    assert (liver["class"], liver["name"], liver["cases"], liver["empty"], liver["left_out"]) == (1, "liver", 3, 0, 0)
    assert (liver["dice"], liver["asd"]) == pytest.approx((0.8, 2.0))
    assert (adrenal["cases"], adrenal["empty"], adrenal["left_out"]) == (3, 2, 1)
    assert (adrenal["dice"], adrenal["asd"]) == pytest.approx((0.25, 27.0))
    assert (average["class"], average["name"], average["cases"]) == ("average", "", 3)
    assert (average["empty"], average["left_out"]) == (2, 1)
    assert (average["dice"], average["asd"]) == pytest.approx((0.525, 14.5))


def test_class_without_a_score_is_nan_and_left_out_of_the_average():
    rows = case_rows("a", scores([0.9, math.nan], [1.0, math.nan], ("", "both")), "mm", "strict")
    _, absent, average = summarise(rows)
    assert math.isnan(absent["dice"])
    assert (average["dice"], average["asd"], average["left_out"]) == (0.9, 1.0, 1)


def test_units_and_policies_are_summarised_apart(rows):
    in_mm = case_rows("a", scores([0.9, 0.5], [2.5, 8.0]), "mm", "strict", NAMES)
    summary = summarise([*rows, *in_mm])
    assert [(row["class"], row["unit"]) for row in summary] == [
        (c, unit) for unit in ("voxels", "mm") for c in (1, 2, "average")
    ]
    assert summary[-1]["asd"] == pytest.approx(5.25)


def test_csv_files_hold_the_rows_and_the_summary(rows, tmp_path):
    write_scores_csv(tmp_path / "run" / "scores.csv", rows)
    write_scores_csv(tmp_path / "run" / "summary.csv", summarise(rows))
    table = read(tmp_path / "run" / "scores.csv")
    assert table[0] == ["case", "class", "name", "dice", "asd", "unit", "empty", "policy"]
    assert table[1] == ["a", "1", "liver", "0.900000", "1.000000", "voxels", "", "strict"]
    assert table[4] == ["b", "2", "left adrenal", "0.000000", "50.000000", "voxels", "prediction", "strict"]
    assert table[6] == ["c", "2", "left adrenal", "nan", "nan", "voxels", "both", "strict"]
    assert len(table) == 7
    table = read(tmp_path / "run" / "summary.csv")
    assert table[0] == ["class", "name", "dice", "asd", "unit", "cases", "empty", "left_out", "policy"]
    assert table[3] == ["average", "", "0.525000", "14.500000", "voxels", "3", "2", "1", "strict"]
    assert sorted(os.listdir(tmp_path / "run")) == ["scores.csv", "summary.csv"]


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(rows, tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, rows[:2])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scripts.score_tables.os.replace", full)
    with pytest.raises(UserError, match=r"scores\.csv: cannot write the scores \(No space left on device\)"):
        write_scores_csv(path, rows)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_folder_that_is_a_file_and_no_rows_are_user_errors(rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the scores"):
        write_scores_csv(tmp_path / "file" / "scores.csv", rows)
    with pytest.raises(UserError, match="at least one case"):
        write_scores_csv(tmp_path / "scores.csv", [])


def test_tables_need_no_heavy_import():
    heavy = "import sys, scripts.score_tables; print(sorted({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", heavy], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
