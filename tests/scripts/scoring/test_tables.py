import csv
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.scoring.metrics import case_scores
from scripts.scoring.tables import case_rows, over_seeds, read_scores_csv, summarise, text_table, write_scores_csv

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


def test_modalities_have_their_means_after_those_of_all_cases(rows):
    of = {"a": "MR", "b": "CT", "c": "CT"}
    summary = summarise([row | {"modality": of[row["case"]]} for row in rows])
    assert [(row["modality"], row["class"], row["cases"]) for row in summary] == [
        (group, c, n) for group, n in (("all", 3), ("CT", 2), ("MR", 1)) for c in (1, 2, "average")
    ]
    assert [{k: v for k, v in row.items() if k != "modality"} for row in summary[:3]] == summarise(rows)
    assert [row["dice"] for row in summary[3:]] == pytest.approx([0.75, 0.0, 0.375, 0.9, 0.5, 0.7])
    assert [row["asd"] for row in summary[3:]] == pytest.approx([2.5, 50.0, 26.25, 1.0, 4.0, 2.5])


def test_cases_without_a_modality_count_among_all(rows):
    summary = summarise([row | {"modality": "CT" if row["case"] == "a" else ""} for row in rows])
    assert [(row["modality"], row["cases"]) for row in summary if row["class"] == "average"] == [("all", 3), ("CT", 1)]


def test_a_single_modality_has_no_means_of_its_own(rows):
    summary = summarise([row | {"modality": "CT"} for row in rows])
    assert {row["modality"] for row in summary} == {"all"}


def seed_run(*dice, cases=("a", "b"), unit="mm", policy="strict", names=NAMES):
    """Case rows of a run: dice holds a pair per case; asd is ten times as much."""
    pairs = [(case, np.array(pair)) for case, pair in zip(cases, dice, strict=True)]
    return [row for case, d in pairs for row in case_rows(case, scores(d, 10 * d), unit, policy, names)]


def test_runs_are_summed_up_by_mean_and_population_deviation_of_their_means():
    runs = {
        "s0": seed_run([0.8, 0.2], [0.6, 0.4]),  # means 0.7 and 0.3, average 0.5
        "s1": seed_run([0.5, 0.7], [0.3, 0.5]),  # means 0.4 and 0.6, average 0.5
        "s2": seed_run([1.0, 0.3], [0.6, 0.9]),  # means 0.8 and 0.6, average 0.7
    }
    liver, adrenal, average = over_seeds(runs)
    assert (liver["class"], liver["name"], average["class"]) == (1, "liver", "average")
    # Squared differences from the means 19/30, 1/2, 17/30: 26/300, 6/100 and 8/300, over three runs.
    assert (liver["dice"], liver["dice_std"]) == pytest.approx((19 / 30, math.sqrt(26 / 900)))
    assert (adrenal["dice"], adrenal["dice_std"]) == pytest.approx((0.5, math.sqrt(0.02)))
    assert (average["dice"], average["dice_std"]) == pytest.approx((17 / 30, math.sqrt(8 / 900)))
    assert (average["asd"], average["asd_std"]) == pytest.approx((17 / 3, math.sqrt(8 / 9)))
    assert {(r["unit"], r["policy"], r["cases"], r["seeds"], r["left_out"]) for r in (liver, adrenal, average)} == {
        ("mm", "strict", 2, 3, 0)
    }


def test_class_without_a_score_in_one_run_is_the_mean_of_the_others():
    runs = {"s0": seed_run([0.8, math.nan], cases="a"), "s1": seed_run([0.4, 0.6], cases="a")}
    _, adrenal, average = over_seeds(runs)
    assert (adrenal["dice"], adrenal["dice_std"], adrenal["seeds"], adrenal["left_out"]) == (0.6, 0, 2, 1)
    assert (average["dice"], average["dice_std"]) == pytest.approx((0.65, 0.15))
    _, adrenal, _ = over_seeds({"s0": runs["s0"]})
    assert math.isnan(adrenal["dice"])
    assert math.isnan(adrenal["dice_std"])


def test_order_of_the_cases_and_of_the_tables_in_a_run_does_not_matter():
    mm, voxels = seed_run([0.8, 0.2], [0.6, 0.4]), seed_run([0.5, 0.7], [0.3, 0.5], unit="voxels")
    found = over_seeds({"s0": [*mm, *voxels], "s1": [*voxels[2:], *mm[2:], *mm[:2], *voxels[:2]]})
    assert [row["unit"] for row in found] == 3 * ["mm"] + 3 * ["voxels"]
    assert [row["dice"] for row in found] == pytest.approx([0.7, 0.3, 0.5, 0.4, 0.6, 0.5])
    assert all(row["dice_std"] == 0 for row in found)


def test_runs_with_modalities_are_summed_up_for_each():
    rows = [row | {"modality": "MR" if row["case"] == "a" else "CT"} for row in seed_run([0.8, 0.2], [0.6, 0.4])]
    found = over_seeds({"s0": rows, "s1": rows})
    averages = {row["modality"]: row["cases"] for row in found if row["class"] == "average"}
    assert averages == {"all": 2, "CT": 1, "MR": 1}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (seed_run([1, 1], [1, 1], cases="ac"), "same cases in every run as in s0, found c in s2; compare"),
        (seed_run([1, 1], cases="a"), "same cases in every run as in s0, found no b in s2"),
        (seed_run([1, 1], [1, 1], unit="voxels"), "same units in every run as in s0, found voxels in s2"),
        (seed_run([1, 1], [1, 1], policy="zero"), "same policies in every run as in s0, found zero in s2"),
        (seed_run([1, 1], [1, 1], names={}), "same classes in every run as in s0, found 1, 2 in s2"),
        (seed_run([1, 1], [1, 1])[:-1], "same rows in every run as in s0, found no class 2 of case b in s2"),
        ([r | {"hd95": 1.0} for r in seed_run([1, 1], [1, 1])], "same metrics in every run as in s0, found hd95 in s2"),
        ([r | {"modality": "CT"} for r in seed_run([1, 1], [1, 1])], "cases in every run as in s0, found a CT, b CT"),
    ],
)
def test_runs_that_were_not_evaluated_alike_are_named(other, message):
    with pytest.raises(UserError, match=message):
        over_seeds({"s0": seed_run([1, 1], [1, 1]), "s1": seed_run([0, 0], [1, 1]), "s2": other})


def test_every_run_that_differs_is_named_and_no_run_is_a_user_error():
    other = seed_run([1, 1], cases="b")
    with pytest.raises(UserError, match="as in s0, found b in s1; b in s2; compare"):
        over_seeds({"s0": seed_run([1, 1], cases="a"), "s1": other, "s2": other})
    with pytest.raises(UserError, match="at least one run"):
        over_seeds({})


def test_written_rows_are_read_back(rows, tmp_path):
    write_scores_csv(tmp_path / "scores.csv", [row | {"modality": "CT"} for row in rows])
    read_rows = read_scores_csv(tmp_path / "scores.csv")
    assert [list(row) for row in read_rows] == [[*row, "modality"] for row in rows]
    for found, row in zip(read_rows, rows, strict=True):
        assert found == pytest.approx(row | {"modality": "CT"}, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no row"),
        ("case,class,name,dice,unit,empty,policy\n", "found no row"),
        ("class,name,dice,unit,cases,empty,left_out,policy\n1,,0.5,mm,3,0,0,strict\n", "found no column case"),
        ("case,class,name,dice,unit,empty,policy\na,1,,0.5,mm,,strict\na,2,,x,mm,,strict\n", "numbers in line 3"),
        ("case,class,name,dice,unit,empty,policy\na,1\n", "numbers in line 2"),
        ("case,class,name,dice,unit,empty,policy\na,average,,0.5,mm,,strict\n", "numbers in line 2"),
    ],
)
def test_file_of_anything_but_scores_is_a_user_error(text, message, tmp_path):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(UserError, match=rf"scores\.csv: expected the scores per case and class .*{message}"):
        read_scores_csv(tmp_path / "scores.csv")


def test_file_that_is_no_text_or_not_there_is_a_user_error(tmp_path):
    (tmp_path / "scores.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("scores.csv", "missing.csv"):
        with pytest.raises(UserError, match=f"{name}: .* found no readable text"):
            read_scores_csv(tmp_path / name)


def test_text_table_aligns_names_scores_deviations_and_modalities():
    rows = seed_run([0.8, math.nan], [0.8, math.nan], names={1: "liver"})
    rows = [row | {"modality": {"a": "CT", "b": "MR"}[row["case"]]} for row in rows]
    assert text_table(summarise(rows)).splitlines() == [
        "  class            dice       asd",
        "  liver          0.8000    8.0000",
        "  2                   -         -",
        "  average        0.8000    8.0000",
        "  liver, CT      0.8000    8.0000",
        "  2, CT               -         -",
        "  average, CT    0.8000    8.0000",
        "  liver, MR      0.8000    8.0000",
        "  2, MR               -         -",
        "  average, MR    0.8000    8.0000",
    ]

    assert text_table(over_seeds({"s0": seed_run([0.8, 0.2], cases="a")})).splitlines() == [
        "  class                    dice              asd",
        "  liver         0.8000 (0.0000)  8.0000 (0.0000)",
        "  left adrenal  0.2000 (0.0000)  2.0000 (0.0000)",
        "  average       0.5000 (0.0000)  5.0000 (0.0000)",
    ]


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

    monkeypatch.setattr("scripts.files.Path.replace", full)
    with pytest.raises(UserError, match=r"scores\.csv: expected to write the scores, found: no space left on the disk"):
        write_scores_csv(path, rows)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_folder_that_is_a_file_and_no_rows_are_user_errors(rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected to write the scores"):
        write_scores_csv(tmp_path / "file" / "scores.csv", rows)
    with pytest.raises(UserError, match="at least one case"):
        write_scores_csv(tmp_path / "scores.csv", [])


def test_tables_need_no_heavy_import():
    heavy = "import sys, scripts.scoring.tables; print(sorted({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", heavy], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
