"""The layout of the published tables: groups of methods, a column per class, the best three marked, notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.scoring.tables import STD

from ..compare.request import FULLY_SUPERVISED, SUPERVISED_4
from .notes import FLAGS, notes, told
from .patients import OVERLAPS, patient_scores
from .published import AVERAGE, Figure, PublishedRow
from .results import ARMS, LAST, Measured, Results
from .statistics import UNKNOWN, Interval, estimates

GROUPS = {
    "supervised": "Supervised",
    "general": "General semi-supervised",
    "imbalance": "Class-imbalanced semi-supervised",
    "other": "Other semi-supervised",
    "control": "Controls",
    "dca": "DCA",
    "ablation": "Variants",
}
TITLES = {
    "supervised": "labels only",
    SUPERVISED_4: "labels only, 4 images a step",
    "supervised_strong": "labels only, strong recipe",
    "mean_teacher_cp_strong": "one decoder, strong recipe",
    "dca_strong": "DCA, strong recipe",
    FULLY_SUPERVISED: "fully supervised",
    "mean_teacher_cp": "one decoder",
    "mean_teacher_cp_jitter": "one decoder, jitter",
    "self_training": "self-training",
    "fixmatch": "FixMatch",
    "unimatch": "UniMatch",
    "tak": "TAK",
    "ga_released_ramp": "GA, ramp as released",
}
OWN_GROUPS = {
    **dict.fromkeys((SUPERVISED_4, "supervised_strong"), "supervised"),
    **dict.fromkeys(("mean_teacher_cp", "mean_teacher_cp_jitter", "mean_teacher_cp_strong"), "control"),
    "dca_strong": "dca",
    **dict.fromkeys(("self_training", "fixmatch", "unimatch"), "general"),
    **dict.fromkeys(("tak", "ga_released_ramp"), "imbalance"),
}
METRICS = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95", "asd": "ASD"}
MARKED = 3
DECIMALS = 2


@dataclass(frozen=True)
class Column:
    """metric: of METRICS; region: a class or AVERAGE."""

    metric: str
    region: str


BOUNDED = Column("dice", AVERAGE)  # the figure that stands with its interval


@dataclass(frozen=True)
class Cell:
    """What was measured, and what is published.

    value, std: nan where there is none. interval: of the value, over patients and seeds; nan but in BOUNDED.
    rank: 1 to 3 if it is among the best of its column, else 0.
    published: None if nothing is. flags: what in the published row contradicts it, out of FLAGS.
    """

    value: float = math.nan
    std: float = math.nan
    rank: int = 0
    published: Figure | None = None
    flags: str = ""
    interval: Interval = UNKNOWN


@dataclass(frozen=True)
class Line:
    """A method's line, with a cell for every column; arm: its settings, of ARMS."""

    name: str
    arm: str
    title: str
    seeds: Sequence[int]
    cells: Mapping[Column, Cell]


@dataclass(frozen=True)
class Table:
    """What every format shows.

    title: data set, percentage, and the set of cases that the scores are of.
    blocks: the columns, in parts that fit a page, by their titles; headings: what stands over a column in its block.
    groups: lines by the title of their group.
    notes: to stand below. settings: what belongs to every line of a file, by name.
    compared: whether figures are published for this data set and percentage.
    """

    title: str
    blocks: dict[str, list[Column]]
    headings: dict[Column, str]
    groups: dict[str, list[Line]]
    notes: list[str]
    settings: dict[str, str]
    compared: bool

    @property
    def columns(self) -> list[Column]:
        """Those of all blocks."""
        return [column for columns in self.blocks.values() for column in columns]


def lay_out(results: Results, published: Mapping[tuple[str, float], Mapping[str, PublishedRow]], kind: str) -> Table:
    """The table of a comparison beside the published figures of its data set and percentage, if there are any.

    Args:
        results: what was measured.
        published: of `read_published`.
        kind: of the scores, as in the names of their files.
    """
    data, percent = str(results.settings["data"]), float(results.settings["percent"])
    printed = published.get((data.lower(), percent), {})
    known = {name: row for table in [*published.values()][::-1] for name, row in table.items()}
    order = [*dict.fromkeys(name for table in published.values() for name in table)]
    parts = {arm: results.of_arm(arm) for arm in results.arms}

    def place(method: Measured) -> tuple[int, str, int]:
        return order.index(method.name) if method.name in order else len(order), method.name, [*ARMS].index(method.arm)

    methods = sorted(results.methods, key=place)
    blocks = _blocks(results, printed)
    columns = [column for block in blocks.values() for column in block]
    ranks = {arm: {column: _ranks(column, part.methods) for column in columns} for arm, part in parts.items()}
    intervals = {arm: estimates(patient_scores(part, BOUNDED.metric)) for arm, part in parts.items()}
    groups: dict[str, list[Line]] = {title: [] for title in GROUPS.values()}
    alike = len({tuple(method.seeds) for method in methods}) == 1
    for method in methods:
        row = known.get(method.name)
        group = row.group if row else OWN_GROUPS.get(method.name, "ablation" if method.variant_of else "other")
        title = TITLES.get(method.name) or (row.method if row else method.name)
        title += f", {ARMS[method.arm]}" if results.arms != [""] else ""
        title += "" if alike else f" (seed{'s' * (len(method.seeds) > 1)} {', '.join(map(str, method.seeds))})"
        cells = {c: _cell(c, method, printed.get(method.name), ranks[method.arm][c]) for c in columns}
        low, high = intervals[method.arm][method.name].interval
        cells[BOUNDED] = replace(cells[BOUNDED], interval=(100 * low, 100 * high))
        groups[GROUPS[group]].append(Line(method.name, method.arm, title, method.seeds, cells))
    unit = methods[0].rows[0]["unit"]
    last = ", last checkpoint" if results.checkpoint == LAST else ""
    return Table(
        title=f"{data}, {percent:g} % labelled: the {results.role} set{last}",
        blocks=blocks,
        headings={c: _heading(c, unit, bool(printed)) for c in columns},
        groups={title: lines for title, lines in groups.items() if lines},
        notes=notes(results, methods, printed, {(c.metric, c.region) for c in columns}, kind),
        settings=told(results),
        compared=bool(printed),
    )


def _blocks(results: Results, printed: Mapping[str, PublishedRow]) -> dict[str, list[Column]]:
    """The averages of all metrics; then the classes, for Dice and what else is published for classes."""
    measured = measured_metrics(results.methods)
    places = {place for row in printed.values() for place in row.figures}
    blocks = {"Average over the classes": [Column(metric, AVERAGE) for metric in measured]}
    for metric in measured:
        if metric == "dice" or any(m == metric and region != AVERAGE for m, region in places):
            title = f"{METRICS.get(metric, metric)} of the classes"
            blocks[title] = [Column(metric, label) for label in results.labels]
    return blocks


def measured_metrics(methods: Sequence[Measured]) -> list[str]:
    """The metrics that were measured, those of METRICS first."""
    first = methods[0].rows[0]
    measured = [key for key in first if key + STD in first]
    return sorted(measured, key=lambda metric: [*METRICS].index(metric) if metric in METRICS else len(METRICS))


def _heading(column: Column, unit: str, compared: bool) -> str:
    """A class, or an averaged metric with its unit; published distances are in voxels, whatever was measured."""
    if column.region != AVERAGE:
        return column.region
    name = METRICS.get(column.metric, column.metric)
    if column.metric in OVERLAPS:
        return f"{name}, %"
    return f"{name}, {unit}" + (" (voxels)" if compared and unit != "voxels" else "")


def _cell(column: Column, method: Measured, row: PublishedRow | None, ranks: Mapping[str, int]) -> Cell:
    value, std = _figures(column, method)
    if row is None:
        return Cell(value, std, ranks.get(method.name, 0))
    place = (column.metric, column.region)
    found = zip(FLAGS, (row.wrong_averages(), row.impossible_jaccards()), strict=True)
    flags = "".join(flag for flag, places in found if place in places)
    return Cell(value, std, ranks.get(method.name, 0), row.figures.get(place), flags)


def _figures(column: Column, method: Measured) -> tuple[float, float]:
    """Mean and standard deviation over the seeds, overlaps in percent."""
    for row in method.rows:
        if column.region == (AVERAGE if row["class"] == AVERAGE else row["name"]):
            scale = 100 if column.metric in OVERLAPS else 1
            deviation = row[column.metric + STD] if len(method.seeds) > 1 else math.nan
            return scale * row[column.metric], scale * deviation
    return math.nan, math.nan


def _ranks(column: Column, methods: Iterable[Measured]) -> dict[str, int]:
    """The best of a column: name and rank from 1, as rounded for the table: what looks alike there is alike.

    What has every label to learn from does not compete.
    """
    values = {method.name: _figures(column, method)[0] for method in methods if method.name != FULLY_SUPERVISED}
    sign = -1 if column.metric in OVERLAPS else 1
    scores = {name: sign * round(value, DECIMALS) for name, value in values.items() if not math.isnan(value)}
    ranks = {name: 1 + sum(other < score for other in scores.values()) for name, score in scores.items()}
    return {name: rank for name, rank in ranks.items() if rank <= MARKED}
