"""The statistics of a comparison as Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scripts.errors import UserError, did_you_mean
from scripts.scoring.tables import Row, csv_text

from ..compare.request import FULLY_SUPERVISED
from .formats import aligned
from .layout import METRICS, Table, measured_metrics
from .notes import provenance
from .patients import OVERLAPS, PatientScores, average_of_classes, patient_scores
from .published import AVERAGE
from .results import Results
from .statistics import (
    DRAWS,
    LEVEL,
    Difference,
    Estimate,
    Interval,
    Ranking,
    Stability,
    differences,
    estimates,
    rankings,
    smallest_p,
    stability,
)

OURS = "dca"  # the reference unless the user names another: chosen before any result was there
FEW = 10  # patients whose values are all shown
RANKED = "dice"
# The columns of the CSV file that are no names.
NUMBERS = (
    *("mean", "low", "high", "seeds std", "difference", "difference low", "difference high", "p", "p holm"),
    *("mean then rank", "rank then mean", "test then rank", "first", "mean rank", "rank low", "rank high"),
    *("tau", "tau low", "tau high", "first changes", "order changes"),
)


@dataclass(frozen=True)
class Statistics:
    """All statistics of one metric in one region, by method; `compared` and `ranked` leave out the upper bound."""

    scores: PatientScores
    region: str
    means: Mapping[str, Estimate]
    compared: Mapping[str, Difference]
    ranked: Mapping[str, Ranking]
    stable: Stability | None


def statistics_markdown(results: Results, table: Table, kind: str, against: str | None) -> str:
    """Means, differences to a reference, and ranks, each as a table, and what has to be known to read them.

    Raises:
        UserError: no method of the name `against` that competes.
    """
    arm = results.methods[0].arm
    titles = {line.name: line.title for lines in table.groups.values() for line in lines if line.arm == arm}
    reference = _reference(results, against)
    whole = {metric: _statistics(patient_scores(results, metric), AVERAGE, reference) for metric in _metrics(results)}
    dice = whole[RANKED]
    order = sorted(titles, key=lambda name: (name not in dice.ranked, -dice.means[name].mean))
    unit = results.methods[0].rows[0]["unit"]
    blocks = [_means(whole, titles, order, unit)]
    if dice.compared:
        blocks += [_differences(dice, titles, order, reference), _ranks(dice, titles, order)]
    if len(dice.scores.patients) <= FEW:
        blocks.append(_patients(dice, titles, order))
    lines = [line for block in ([f"### {table.title}: statistics"], *blocks) for line in (*block, "")]
    notes = [*_notes(whole, titles, reference), *provenance(results, kind)]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def statistics_csv(results: Results, table: Table, kind: str, against: str | None) -> str:
    """A line per metric, region and method with all numbers; overlaps in percent.

    Raises:
        UserError: no method of the name `against` that competes.
    """
    reference, rows = _reference(results, against), list[Row]()
    for metric in _metrics(results):
        scores = patient_scores(results, metric)
        regions = {AVERAGE: scores} | {name: scores.of_class(name) for name in scores.classes if metric == RANKED}
        for region, part in regions.items():
            found = _statistics(part, region, reference)
            rows += [_row(found, method, reference) | table.settings for method in found.means]
    return csv_text(rows)


STATISTICS: dict[str, Callable[[Results, Table, str, str | None], str]] = {
    "statistics": statistics_markdown,
    "statistics-csv": statistics_csv,
}


def _metrics(results: Results) -> list[str]:
    return sorted(measured_metrics(results.methods), key=lambda metric: metric != RANKED)


def _reference(results: Results, against: str | None) -> str:
    names = [method.name for method in results.methods if method.name != FULLY_SUPERVISED]
    if against is not None and against not in names:
        raise UserError(
            f"--against: expected a method of the comparison that competes, found {against!r}; "
            f"{did_you_mean(against, names)}"
        )
    if against is not None or OURS in names:
        return against or OURS
    found = estimates(patient_scores(results, RANKED))
    return max(names or [FULLY_SUPERVISED], key=lambda name: found[name].mean)


def _statistics(scores: PatientScores, region: str, reference: str) -> Statistics:
    found = estimates(scores)
    competing = [method for method in scores.values if method != FULLY_SUPERVISED]
    return Statistics(
        scores,
        region,
        found,
        differences(scores, found, competing, reference) if competing else {},
        rankings(scores, found, competing) if competing else {},
        stability(scores, found, competing) if region == AVERAGE else None,
    )


def _means(whole: Mapping[str, Statistics], titles: Mapping[str, str], order: list[str], unit: str) -> list[str]:
    head = ["**Means**"]
    for metric in whole:
        head += [f"{METRICS.get(metric, metric)}, {'%' if metric in OVERLAPS else unit}", "95 % interval", "seeds' SD"]
    rows = []
    for name in order:
        cells = [titles[name]]
        for metric, found in whole.items():
            one = found.means[name]
            cells += [_number(one.mean, metric), _range(one.interval, metric), _number(one.deviation, metric)]
        rows.append(cells)
    return aligned([head, *rows])


def _differences(found: Statistics, titles: Mapping[str, str], order: list[str], reference: str) -> list[str]:
    head = [f"**Dice less that of {titles[reference]}**", "points", "95 % interval", "without 0", "p", "p, Holm"]
    rows = []
    for name in (name for name in order if name in found.compared):
        one = found.compared[name]
        apart = "yes" if one.interval[0] > 0 or one.interval[1] < 0 else "no"
        numbers = [_number(one.mean, RANKED, "+"), _range(one.interval, RANKED, "+")]
        rows.append([titles[name], *numbers, apart, f"{one.p:.2g}", f"{one.corrected:.2g}"])
    return aligned([head, *rows])


def _ranks(found: Statistics, titles: Mapping[str, str], order: list[str]) -> list[str]:
    head = ["**Ranks by Dice**", "mean then rank", "rank then mean", "test then rank"]
    head += ["first in", "mean rank", "95 % interval"]
    rows = []
    for name in (name for name in order if name in found.ranked):
        one = found.ranked[name]
        low, high = one.interval
        stable = [f"{100 * one.first:.1f} %", f"{one.mean:.1f}", f"{low:g} to {high:g}"]
        rows.append([titles[name], *map(str, (one.by_mean, one.by_patient, one.by_tests)), *stable])
    return aligned([head, *rows])


def _patients(found: Statistics, titles: Mapping[str, str], order: list[str]) -> list[str]:
    values = {name: average_of_classes(found.scores.values[name]) for name in order}
    rows = [[titles[name], *(_number(float(value), RANKED) for value in values[name])] for name in order]
    return aligned([["**Dice of the patients**", *found.scores.patients], *rows])


def _notes(whole: Mapping[str, Statistics], titles: Mapping[str, str], reference: str) -> list[str]:
    dice = whole[RANKED]
    patients, family = len(dice.scores.patients), len(dice.compared)
    replaced = sum(found.scores.replaced for found in whole.values())
    notes = [
        f"unit: {patients} patients; the cases of a patient are averaged. A score that is missing or infinite counts "
        f"as the worst, an overlap of 0 or the largest distance here ({replaced} did); a class that neither label nor "
        "prediction has is no part of a case",
        f"intervals: percentiles of {DRAWS} bootstrap draws, each of one set of patients for all methods and of as "
        "many seeds as each method has. They hold for this split and these labelled patients. They see only "
        "(S - 1) / S of the variance over S seeds: the seeds' SD (n - 1) stands beside them",
    ]
    if dice.compared:
        notes += [
            f"differences: to {titles[reference]}; p by Wilcoxon's signed-rank test, exact and two-sided, on the "
            f"patients' averages over classes and seeds; Holm's correction for {_times(family)}. The test takes "
            "the seeds as they are, the interval does not: a method is better where the interval is without 0, too",
            "ranks: equal values share the better one. Mean then rank: of the figures above. Rank then mean: the mean "
            "of a method's ranks in single patients. Test then rank: of how many others it beats (Wilcoxon, "
            f"one-sided, p < {LEVEL:g}, not corrected). First in, mean rank: in the draws",
        ]
    smallest = smallest_p(patients)
    if family and smallest * family > LEVEL:
        notes.append(
            f"{patients} patients are too few for {_times(family)}: p cannot be below {smallest:.2g}, and times "
            f"{family} that is {min(1.0, smallest * family):.2g}. No difference can be significant; read the intervals"
        )
    if dice.stable is not None:
        low, high = dice.stable.quartiles
        notes.append(
            f"stability: Kendall's tau of the draws' rankings to this one {dice.stable.tau:.2f} (quartiles {low:.2f} "
            f"to {high:.2f}). Leaving out one patient at a time changes the first in {dice.stable.first_changes} and "
            f"the order in {dice.stable.order_changes} of {patients} rankings"
        )
    bound = [titles[FULLY_SUPERVISED]] if FULLY_SUPERVISED in titles else []
    return notes + [f"{name} has all labels, and does not compete" for name in bound]


def _times(count: int) -> str:
    return f"{count} comparison{'s' * (count != 1)}"


def _row(found: Statistics, method: str, reference: str) -> Row:
    one, rank, stable = found.compared.get(method), found.ranked.get(method), found.stable
    scale = 100 if found.scores.metric in OVERLAPS else 1
    lengths = [found.means[method].mean, *found.means[method].interval, found.means[method].deviation]
    lengths += [one.mean, *one.interval] if one else [math.nan] * 3
    numbers = [scale * length for length in lengths] + ([one.p, one.corrected] if one else [math.nan] * 2)
    if rank:
        numbers += [rank.by_mean, rank.by_patient, rank.by_tests, rank.first, rank.mean, *rank.interval]
    else:
        numbers += [math.nan] * 7
    if stable:
        numbers += [stable.tau, *stable.quartiles, stable.first_changes, stable.order_changes]
    else:
        numbers += [math.nan] * 5
    about = {"metric": found.scores.metric, "region": found.region, "method": method, "against": reference}
    about |= {"patients": str(len(found.scores.patients)), "replaced": str(found.scores.replaced)}
    written = ("" if math.isnan(number) else f"{number:.6g}" for number in numbers)
    return about | dict(zip(NUMBERS, written, strict=True))


def _number(value: float, metric: str, sign: str = "") -> str:
    scaled = 100 * value if metric in OVERLAPS else value
    return "-" if math.isnan(scaled) else f"{scaled:{sign}.2f}"


def _range(interval: Interval, metric: str, sign: str = "") -> str:
    return "-" if math.isnan(interval[0]) else " to ".join(_number(end, metric, sign) for end in interval)
