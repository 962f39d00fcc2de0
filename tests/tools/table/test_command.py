"""`table`: what was measured in the layout of the published tables and beside them, the best marked, gaps named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from tests.bundle_runner import ROOT
from tests.tools.trainings import SHARED, leave_run
from tools.compare.state import write_state

Table = Callable[..., str]


def cells(text: str, block: str) -> dict[str, list[str]]:
    """The rows of a block of a Markdown table, by the first cell."""
    lines = text[text.index(f"| **{block}**") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_methods_stand_in_the_groups_of_the_published_tables_with_a_column_per_class(
    output: Path, table: Table
) -> None:
    for method in ("dca", "dhc", "supervised", "cps", "ua_mt", "dca_logits", "fully_supervised"):
        leave_run(output, method, jaccard=(0.8, 0.5, 0.2), hd95=(1, 2, 6), asd=(1, 1, 4))
    text = table()
    assert text.splitlines()[0] == "### ACDC, 10 % labelled: the validation set"
    average, dice = (cells(text, block) for block in ("Average over the classes", "Dice of the classes"))
    assert average["**Average over the classes**"] == ["Dice, %", "Jaccard, %", "HD95, mm (voxels)", "ASD, mm (voxels)"]
    assert dice["**Dice of the classes**"] == ["right ventricle", "myocardium", "left ventricle"]
    order = ["*Supervised*", "fully supervised", "labels only", "*General semi-supervised*", "UA-MT", "CPS"]
    order += ["*Class-imbalanced semi-supervised*", "DHC", "*DCA*", "DCA", "*Variants*", "dca_logits"]
    for rows in (average, dice):
        assert [row for row in rows if row[0] not in "-" and not row.startswith("**")] == order
    assert average["fully supervised"] == [
        "60.00 [60.00, 60.00] (91.31)",
        "50.00 (83.18†‡)",
        "3.00 (4.24)",
        "2.00 (0.91)",
    ]
    assert [cell.split(" ")[0] for cell in dice["labels only"]] == ["**90.00**", "**60.00**", "**30.00**"]
    for metric in ("Jaccard", "HD95", "ASD"):  # published for the classes, too
        assert len(cells(text, f"{metric} of the classes")["CPS"]) == 3


def test_references_and_controls_have_groups_of_their_own(output: Path, table: Table) -> None:
    for method in ("dca", "supervised", "supervised_4", "mean_teacher_cp", "mean_teacher_cp_jitter"):
        leave_run(output, method)
    rows = [row for row in cells(table(), "Dice of the classes") if row[0] not in "-" and not row.startswith("**")]
    assert rows == ["*Supervised*", "labels only", "labels only, 4 images a step", "*Controls*", "one decoder",
                    "one decoder, jitter", "*DCA*", "DCA"]  # fmt: skip


def test_figures_are_mean_and_population_deviation_over_the_seeds(output: Path, table: Table) -> None:
    for seed, dice in enumerate([(0.9, 0.6, 0.3), (0.5, 0.6, 0.1)]):
        leave_run(output, "supervised", seed, dice, asd=tuple(10 * d for d in dice))
    text = table()
    averages = [
        "**50.00 ± 10.00** ¹ [40.00, 60.00]",
        "**5.00 ± 1.00** ¹",
    ]  # the draws of two seeds: also one of them twice
    assert cells(text, "Average over the classes")["labels only"] == averages
    figures = ["**70.00 ± 20.00** ¹", "**60.00 ± 0.00** ¹", "**20.00 ± 10.00** ¹"]
    assert cells(text, "Dice of the classes")["labels only"] == figures
    assert "mean ± population standard deviation" in text
    assert "seeds 0, 1" in text


def test_the_best_three_of_a_column_are_marked_and_the_upper_bound_does_not_compete(output: Path, table: Table) -> None:
    scores = {"fully_supervised": 0.9, "supervised": 0.2, "cps": 0.50001, "dhc": 0.5, "simis": 0.4, "dca": 0.6}
    for method, dice in scores.items():
        leave_run(output, method, dice=(dice, 0.1, 0.1), asd=(1 - dice, 1, 1))
    rows = cells(table(), "Dice of the classes")
    ranks = {name: row[0].split("(")[0].strip() for name, row in rows.items()}
    assert ranks["DCA"] == "**60.00** ¹"
    assert ranks["CPS"] == "50.00 ²"
    assert ranks["DHC"] == "50.00 ²"
    assert [ranks[name] for name in ("SimiS", "labels only", "fully supervised")] == ["40.00", "20.00", "90.00"]
    distances = {name: row[1].split("(")[0].strip() for name, row in cells(table(), "Average over the classes").items()}
    assert distances["DCA"] == "**0.80** ¹"  # the less, the better
    assert distances["fully supervised"] == "0.70"


def test_the_3d_layout_has_classes_for_dice_only_and_published_deviations(output: Path, table: Table) -> None:
    config = json.loads((ROOT / "bundles" / "dca_synapse" / "configs" / "data_set.json").read_text())
    labels = {int(key): name for key, name in config["labels"].items()}
    thirteen = [0.1] * len(labels)
    shared = SHARED | {"bundle": "dca_synapse", "data": "Synapse"}
    leave_run(output, "dca", dice=thirteen, shared=shared, labels=labels, jaccard=thirteen, asd=thirteen)
    text = table("--scores", "protocol_voxels")
    assert cells(text, "Average over the classes")["DCA"] == [
        "**10.00** ¹ [10.00, 10.00] (62.18 ± 1.1†)",
        "**10.00** ¹",
        "**0.10** ¹ (3.94 ± 0.5)",
    ]
    assert cells(text, "Average over the classes")["**Average over the classes**"][2] == "ASD, voxels"
    dice = cells(text, "Dice of the classes")
    assert dice["**Dice of the classes**"] == [*labels.values()]
    assert dice["DCA"][4] == "**10.00** ¹ (58.2)"
    assert "ASD of the classes" not in text
    (row,) = csv.DictReader(io.StringIO(table("--format", "csv")))
    published = [row[f"dice average {what}"] for what in ("published", "published std", "contradiction")]
    assert published == ["62.18", "1.1", "average"]
    assert (
        "- † the published average is not that of the published classes: DCA (dice 62.18, mean of its classes" in text
    )


def test_validation_and_test_scores_are_named_as_what_they_are(output: Path, table: Table) -> None:
    for method in ("supervised", "cps"):
        leave_run(output, method, dice=(0.9, 0.6, 0.3))
    text = table()
    assert "### ACDC, 10 % labelled: the validation set\n" in text
    assert "which also chose the checkpoint; the test set was scored for none of these runs\n" in text
    leave_run(output, "dca", dice=(0.9, 0.6, 0.3), test=(0.1, 0.2, 0.3))
    text = table()  # not all of them have test scores
    assert "### ACDC, 10 % labelled: the validation set\n" in text
    assert "which also chose the checkpoint; the test set was scored for 1 of these runs\n" in text
    text = table("--on", "test")
    assert "### ACDC, 10 % labelled: the test set\n" in text
    assert "- scored: the test set, once per run, by the checkpoint that the validation set chose\n" in text
    assert cells(text, "Average over the classes")["DCA"] == ["**20.00** ¹ [20.00, 20.00] (91.02)"]
    assert "- not in the table: cps seed 0 (done); supervised seed 0 (done)\n" in text


def test_test_scores_are_taken_where_every_run_has_them(output: Path, table: Table) -> None:
    for method in ("supervised", "cps"):
        leave_run(output, method, test=(0.1, 0.2, 0.3))
    text = table()
    assert "### ACDC, 10 % labelled: the test set\n" in text
    assert cells(text, "Average over the classes")["labels only"] == ["**20.00** ¹ [20.00, 20.00]"]
    assert "the validation set\n" in table("--on", "validation").splitlines(keepends=True)[0]


def test_the_last_checkpoint_has_a_table_of_its_own(output: Path, table: Table) -> None:
    leave_run(output, "supervised", last=(0.3, 0.2, 0.1))
    leave_run(output, "cps")  # by older code
    text = table("--checkpoint", "last")
    assert "### ACDC, 10 % labelled: the validation set, last checkpoint\n" in text
    assert (
        "- scored: the validation set, by the last checkpoint of each training; the test set was scored for none"
        in text
    )
    assert cells(text, "Average over the classes")["labels only"] == ["**20.00** ¹ [20.00, 20.00]"]
    assert "- not in the table: cps seed 0 (done)\n" in text
    assert cells(table(), "Average over the classes")["labels only"][0].startswith("**60.00** ¹")
    error = table("--checkpoint", "last", "--on", "test", code=2)
    assert "--checkpoint last: expected the validation set, found --on test" in error


def test_runs_without_scores_are_listed_with_the_reason(output: Path, table: Table) -> None:
    leave_run(output, "supervised")
    leave_run(output, "cps", dice=None, state={"state": "failed", "error": "error: the loss is nan"})
    leave_run(output, "dca", dice=None, state={"state": "running"})
    leave_run(output, "dhc", dice=None)
    (output / "dhc" / "seed0" / "state.json").unlink()
    reasons = "cps seed 0 (failed: error: the loss is nan); dca seed 0 (running); dhc seed 0 (not begun)"
    assert f"- not in the table: {reasons}\n" in table()


def test_methods_with_other_seeds_and_settings_say_so(output: Path, table: Table) -> None:
    for seed in (0, 1):
        leave_run(output, "supervised", seed, settings={"lr": "0.03", "amp": "False", "split_file": "a.json"})
    leave_run(output, "cps", 0, settings={"lr": "0.01", "amp": "False", "split_file": "b.json"})
    text = table()
    assert "| labels only (seeds 0, 1) " in text
    assert "| CPS (seed 0) " in text
    assert "preset cpu, amp=False; seeds 0 or 0, 1\n" in text
    assert "- cps with lr=0.01\n- supervised with lr=0.03\n" in text
    assert "‡" not in text  # the published Jaccards of CPS: no column shows them


def test_commits_are_named_and_changes_that_are_in_none(output: Path, table: Table) -> None:
    leave_run(output, "supervised")
    leave_run(output, "cps")
    write_state(output / "cps" / "seed0", code=[{"commit": "f" * 40, "dirty": True}])
    assert "- code: ffffffffff with changes, 0123456789\n" in table()


def test_without_published_figures_the_table_says_so_and_has_no_brackets(output: Path, table: Table) -> None:
    leave_run(output, "dca", shared=SHARED | {"percent": 20}, asd=(1, 1, 1))
    text = table()
    assert "- no figures are published for ACDC with 20 % labelled\n" in text
    rows = cells(text, "Average over the classes")
    assert rows["**Average over the classes**"] == ["Dice, %", "ASD, mm"]
    assert rows["DCA"] == ["**60.00** ¹ [60.00, 60.00]", "**1.00** ¹"]


def test_a_method_that_no_published_table_knows_is_shown_under_its_name(output: Path, table: Table) -> None:
    leave_run(output, "dca")
    leave_run(output, "nova")
    rows = cells(table(), "Dice of the classes")
    assert [*rows][2:] == ["*Other semi-supervised*", "nova", "*DCA*", "DCA"]


def test_the_table_is_written_to_a_file(output: Path, table: Table, tmp_path: Path) -> None:
    leave_run(output, "dca")
    expected = table()
    assert table("--output", str(tmp_path / "new" / "table.md")) == f"wrote {tmp_path / 'new' / 'table.md'}\n"
    assert (tmp_path / "new" / "table.md").read_text(encoding="utf-8") == expected


def test_mistakes_are_one_line(output: Path, table: Table) -> None:
    def told(*words: str) -> str:
        error = table(*words, code=2)
        assert error.count("\n") == 1
        return error

    assert f"{output}: expected a comparison with validation scores, found no run; give the --output" in told()
    leave_run(output, "cps", dice=None, state={"state": "running"})
    assert "with validation scores, found 1 runs without" in told()
    leave_run(output, "supervised")
    assert "with test scores, found 2 runs without; give" in told("--on", "test")
    assert "scores_mm.csv: expected this file of scores, found native_mm, protocol_voxels" in told("--scores", "mm")
    leave_run(output, "dca", shared=SHARED | {"steps": 2000})
    seeds = f"{output / 'supervised' / 'seed0'}: expected the settings of {output / 'dca' / 'seed0'}, found others"
    assert seeds in told()
    (output / "cps" / "seed0" / "run.json").write_text("{")
    assert f"{output / 'cps' / 'seed0' / 'run.json'}: expected" in told()


def test_the_list_of_runs_has_every_run_and_class_with_what_it_was_made_by(output: Path, table: Table) -> None:
    for seed, dice in enumerate([(0.9, 0.6, 0.3), (0.5, 0.6, 0.1)]):
        state = {
            "seconds": 12.5,
            "sha256": f"hash{seed}",
            "code": [{"commit": "0123456789abcdef", "dirty": bool(seed)}],
        }
        leave_run(output, "cps", seed, dice, state=state)
    leave_run(output, "dca", 0, None, state={"state": "failed"})
    rows = [*csv.DictReader(io.StringIO(table("--format", "runs")))]
    assert [(row["method"], row["seed"], row["class"], row["dice"]) for row in rows] == [
        ("cps", seed, region, dice)
        for seed, figures in (("0", "0.9 0.6 0.3 0.6"), ("1", "0.5 0.6 0.1 0.4"))
        for region, dice in zip(("1", "2", "3", "average"), (f"{float(d):.6f}" for d in figures.split()), strict=True)
    ]
    assert [(row["sha256"], row["commits"], row["seconds"]) for row in rows[::4]] == [
        ("hash0", "0123456789", "12.5"),
        ("hash1", "0123456789+", "12.5"),
    ]
    assert rows[0]["cases"] == "2"
