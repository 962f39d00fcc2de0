"""The statistics of `table`: patients and failures, intervals, corrected tests, ranks, all on numbers told by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from scripts.scoring.tables import case_rows, write_scores_csv
from tests.tools.trainings import LABELS, leave_run
from tools.table.patients import PatientScores, means, patient_scores
from tools.table.results import collect
from tools.table.statistics import differences, estimates, holm, rankings, smallest_p, stability

Table = Callable[..., str]


def scores(metric: str = "dice", **methods: Sequence[Sequence[float]]) -> PatientScores:
    """Scores of a single class: for each method a row per seed with a value per patient."""
    values = {name: np.array(rows, dtype=float)[:, :, None] for name, rows in methods.items()}
    patients = [f"p{i}" for i in range(next(iter(values.values())).shape[1])]
    return PatientScores(metric, patients, ["organ"], values, 0)


def leave_cases(
    output: Path, method: str, dice: Mapping[str, Sequence[float]], seed: int = 0, empty: Sequence[str] = ("",) * 3
) -> None:
    """A run whose cases have scores of their own: for each class by the name of the case."""
    leave_run(output, method, seed)
    rows = [
        row
        for case, values in dice.items()
        for row in case_rows(case, {"dice": np.array(values), "empty": np.array(empty)}, "mm", "strict", LABELS)
    ]
    write_scores_csv(output / method / f"seed{seed}" / "validation" / "scores_native_mm.csv", rows)


def test_two_frames_of_a_heart_are_one_patient(output: Path) -> None:
    leave_cases(output, "cps", {"b_frame01": (0.2,) * 3, "b_frame12": (0.4,) * 3, "a_frame01": (0.8, 0.7, 0.6)})
    found = patient_scores(collect(output, None, "native_mm"), "dice")
    assert found.patients == ["a", "b"]
    assert found.values["cps"][0] == pytest.approx(np.array([[0.8, 0.7, 0.6], [0.3, 0.3, 0.3]]))


def test_whose_a_case_is_the_runs_say(output: Path) -> None:
    leave_cases(output, "cps", {"h1_ED": (0.2,) * 3, "h1_ES": (0.4,) * 3, "h2": (0.5,) * 3})
    file = output / "cps" / "seed0" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"patients": {"h1_ED": "h1", "h1_ES": "h1", "h2": "h2"}}))
    found = patient_scores(collect(output, None, "native_mm"), "dice")
    assert found.patients == ["h1", "h2"]
    assert found.values["cps"][0, :, 0] == pytest.approx([0.3, 0.5])


def test_a_failure_counts_as_the_worst_value_and_what_nobody_has_does_not_count(output: Path) -> None:
    leave_cases(output, "cps", {"a": (math.nan, 0.5, math.nan)}, empty=("both", "", "prediction"))
    found = patient_scores(collect(output, None, "native_mm"), "dice")
    assert found.values["cps"][0, 0] == pytest.approx([math.nan, 0.5, 0.0], nan_ok=True)
    assert found.replaced == 1


def test_a_failed_distance_is_the_largest_of_the_comparison(output: Path) -> None:
    for method, distance in (("cps", math.nan), ("dca", 7.0)):
        leave_run(output, method, asd=(1.0, 2.0, distance))
    values = patient_scores(collect(output, None, "native_mm"), "asd").values
    assert values["cps"][0, 0].tolist() == [1.0, 2.0, 7.0]


def test_a_mean_is_the_average_of_the_classes_means_over_the_patients_that_have_them() -> None:
    values = np.array([[[0.8, 0.2], [0.4, math.nan]]])
    assert means(values, np.array([[1.0, 1.0], [0.0, 2.0]])).tolist() == [[pytest.approx(0.4)], [pytest.approx(0.4)]]
    assert means(values, np.array([[3.0, 1.0]]))[0, 0] == pytest.approx((0.7 + 0.2) / 2)


def test_the_interval_of_a_mean_is_that_of_its_distribution() -> None:
    """The mean of n draws of 0 or 1 is binomial: with n = 16 its percentiles 2.5 and 97.5 are 4 and 12 of 16."""
    found = estimates(scores(cps=[[0.0, 1.0] * 8]))["cps"]
    assert found.interval == (4 / 16, 12 / 16)
    assert found.mean == 0.5


def test_seeds_are_drawn_beside_the_patients_and_their_deviation_has_n_minus_1() -> None:
    found = estimates(scores(cps=[[0.1] * 4, [0.4] * 4]))["cps"]
    assert sorted(set(np.round(found.draws, 6))) == [0.1, 0.25, 0.4]  # one seed twice, or both
    assert found.deviation == pytest.approx(0.3 / math.sqrt(2))
    assert math.isnan(estimates(scores(cps=[[0.1, 0.3]]))["cps"].deviation)


def test_a_single_patient_has_no_interval() -> None:
    assert math.isnan(estimates(scores(cps=[[0.5]]))["cps"].interval[0])


def test_identical_methods_do_not_differ_and_share_the_first_rank() -> None:
    alike = scores(cps=[[0.1, 0.5, 0.7]], dca=[[0.1, 0.5, 0.7]])
    found = estimates(alike)
    one = differences(alike, found, ["cps", "dca"], "dca")["cps"]
    assert (one.mean, one.interval, one.p, one.corrected) == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert [rank.first for rank in rankings(alike, found, ["cps", "dca"]).values()] == [1.0, 1.0]


def test_all_methods_are_drawn_with_the_same_patients() -> None:
    """A shift by a constant has no width, and is first in every draw."""
    values = [0.1, 0.3, 0.8, 0.4, 0.9, 0.2]
    shifted = scores(cps=[values], dca=[[value + 0.05 for value in values]])
    found = estimates(shifted)
    one = differences(shifted, found, ["cps", "dca"], "dca")["cps"]
    assert one.interval == pytest.approx((-0.05, -0.05))
    assert one.p == pytest.approx(2 / 2**6)  # all six signs alike, two-sided
    ranks = rankings(shifted, found, ["cps", "dca"])
    assert (ranks["dca"].first, ranks["cps"].first, ranks["cps"].interval) == (1.0, 0.0, (2.0, 2.0))


def test_the_signed_rank_test_is_exact_and_on_averages_over_the_seeds() -> None:
    """Differences 1, 2, 3, -4: 7 of the 16 signs have a rank sum of at most 4, and as many one of at least 6."""
    pair = scores(cps=[[1.0, 2, 3, -4], [1.0, 2, 3, -4]], dca=[[5.0, 5, 5, 5], [-5.0, -5, -5, -5]])
    assert differences(pair, estimates(pair), ["cps", "dca"], "dca")["cps"].p == pytest.approx(14 / 16)


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # 0.04 * 1 would be below 0.03 * 2
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smallest_p_halves_with_every_patient() -> None:
    assert (smallest_p(6), smallest_p(20)) == (0.03125, pytest.approx(1.9e-6, rel=0.01))


def test_the_three_rankings_differ_where_one_patient_decides() -> None:
    """a wins five of six patients by 0.1 and loses the sixth by 0.9: the mean sees that, the ranks do not."""
    made = scores(a=[[0.6] * 5 + [0.1]], b=[[0.5] * 5 + [1.0]], c=[[0.1] * 6])
    ranks = rankings(made, estimates(made), ["a", "b", "c"])
    assert [ranks[name].by_mean for name in "abc"] == [2, 1, 3]
    assert [ranks[name].by_patient for name in "abc"] == [1, 2, 3]
    # a beats c in 5 patients and equals it in one, p = 1/32; b beats c, p = 1/64; a against b 1 + ... + 5 of 21.
    assert [ranks[name].by_tests for name in "abc"] == [1, 1, 3]


def test_distances_rank_the_other_way() -> None:
    made = scores("hd95", a=[[1.0, 2.0]], b=[[5.0, 6.0]])
    ranks = rankings(made, estimates(made), ["a", "b"])
    assert [(one.by_mean, one.by_patient, one.first) for one in ranks.values()] == [(1, 1, 1.0), (2, 2, 0.0)]


def test_a_ranking_that_every_patient_confirms_is_stable_and_one_that_hangs_on_one_is_not() -> None:
    sure = scores(a=[[0.9, 0.8, 0.7]], b=[[0.5, 0.4, 0.3]])
    found = stability(sure, estimates(sure), ["a", "b"])
    assert found is not None
    assert (found.tau, found.quartiles, found.first_changes, found.order_changes) == (1.0, (1.0, 1.0), 0, 0)
    # Without the third patient a and b change places; c is last either way.
    unsure = scores(a=[[0.5, 0.5, 1.0]], b=[[0.6, 0.6, 0.6]], c=[[0.1, 0.1, 0.1]])
    found = stability(unsure, estimates(unsure), ["a", "b", "c"])
    assert found is not None
    assert (found.first_changes, found.order_changes) == (1, 1)
    # Where the third patient is left out of a draw of three, 8 in 27 draws, tau is 1/3, else 1.
    assert found.tau == pytest.approx(1 - 2 / 3 * 8 / 27, abs=0.02)
    assert stability(sure, estimates(sure), ["a"]) is None


def leave_three(output: Path, seeds: Sequence[int] = (0, 1)) -> None:
    for seed in seeds:
        for method, shift in (("dca", 0.2), ("cps", 0.1), ("supervised", 0.0), ("fully_supervised", 0.3)):
            cases = {f"p{i}": (0.3 + 0.05 * i + shift + 0.01 * seed,) * 3 for i in range(6)}
            leave_cases(output, method, cases, seed)


def rows(text: str, title: str) -> dict[str, list[str]]:
    lines = text[text.index(f"| **{title}**") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_statistics_are_told_with_what_they_mean(output: Path, table: Table) -> None:
    leave_three(output)
    text = table("--format", "statistics")
    assert text.startswith("### ACDC, 10 % labelled: the validation set: statistics\n")
    told = rows(text, "Means")
    assert [*told][2:] == ["DCA", "CPS", "labels only", "fully supervised"]  # by rank; who does not compete is last
    assert (told["DCA"][0], told["DCA"][2]) == ("63.00", "0.71")
    assert rows(text, "Dice less that of DCA")["labels only"][:3] == ["-20.00", "-21.00 to -19.00", "yes"]
    assert rows(text, "Dice less that of DCA")["CPS"][3:] == ["0.031", "0.062"]
    assert rows(text, "Ranks by Dice")["DCA"] == ["1", "1", "1", "100.0 %", "1.0", "1 to 1"]
    assert rows(text, "Dice of the patients")["CPS"] == ["40.50", "45.50", "50.50", "55.50", "60.50", "65.50"]
    assert "fully supervised" not in rows(text, "Ranks by Dice")
    assert "- 6 patients are too few for 2 comparisons: p cannot be below 0.031, and times 2 that is 0.062." in text
    assert "Leaving out one patient at a time changes the first in 0 and the order in 0 of 6 rankings\n" in text
    assert "- scored: the validation set" in text


def test_the_reference_is_ours_or_the_one_that_is_named_or_the_best(output: Path, table: Table) -> None:
    leave_three(output, [0])
    assert "Dice less that of CPS**" in table("--format", "statistics", "--against", "cps")
    error = table("--format", "statistics", "--against", "fully_supervised", code=2)
    assert "--against: expected a method of the comparison that competes, found 'fully_supervised'" in error
    assert "--against: expected --format statistics" in table("--against", "cps", code=2)
    (output / "dca" / "seed0" / "state.json").unlink()
    assert "Dice less that of CPS**" in table("--format", "statistics")


def test_statistics_as_csv_hold_what_markdown_shows_and_the_classes(output: Path, table: Table) -> None:
    leave_three(output)
    found = [*csv.DictReader(io.StringIO(table("--format", "statistics-csv")))]
    by_place = {(row["metric"], row["region"], row["method"]): row for row in found}
    assert {row["region"] for row in found} == {"average", *LABELS.values()}
    cps = by_place["dice", "average", "cps"]
    assert (cps["against"], cps["mean"], cps["difference"], cps["p"], cps["p holm"]) == (
        *("dca", "53", "-10", "0.03125", "0.0625"),
    )
    assert (cps["mean then rank"], cps["first"], cps["tau"], cps["first changes"]) == ("2", "0", "1", "0")
    bound = by_place["dice", "myocardium", "fully_supervised"]
    assert (bound["mean"], bound["difference"], bound["mean then rank"]) == ("73", "", "")


def test_a_method_alone_has_a_mean_and_is_compared_with_nothing(output: Path, table: Table) -> None:
    leave_run(output, "dca")
    text = table("--format", "statistics")
    assert rows(text, "Means")["DCA"] == ["60.00", "60.00 to 60.00", "-"]
    assert "Ranks" not in text
    assert "Holm" not in text


def test_the_order_of_the_rows_in_a_file_changes_nothing(output: Path, table: Table) -> None:
    leave_three(output)
    before = table("--format", "statistics-csv")
    for file in output.rglob("scores_native_mm.csv"):
        head, *lines = file.read_text().splitlines()
        file.write_text("\n".join([head, *lines[::-1]]) + "\n")
    assert table("--format", "statistics-csv") == before


def test_another_method_changes_no_interval(output: Path, table: Table) -> None:
    leave_three(output)
    before = rows(table("--format", "statistics"), "Means")
    leave_cases(output, "bcp", {f"p{i}": (0.1,) * 3 for i in range(6)})
    after = rows(table("--format", "statistics"), "Means")
    for title in ("DCA", "CPS", "labels only"):
        assert after[f"{title} (seeds 0, 1)"] == before[title]
