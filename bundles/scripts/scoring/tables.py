"""Tables of scores: a row per case and class, means over cases and over runs, and the CSV files that hold them."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

from ..errors import UserError
from ..files import replacing

Row = dict[str, Any]
# The columns that are no metric. "modality" is there where the cases have one.
KEYS = ("case", "class", "name", "unit", "cases", "seeds", "empty", "left_out", "policy", "modality")
CASE_KEYS = ("case", "class", "name", "unit", "empty", "policy")  # what rows of `case_rows` hold beside metrics
ALL = "all"  # the modality of means over all cases
STD = "_std"  # ending of the columns with standard deviations


def case_rows(
    case: str, scores: Mapping[str, np.ndarray], unit: str, policy: str, names: Mapping[int, str] | None = None
) -> list[Row]:
    """One row per class from the arrays [K] of `metrics.case_scores`.

    unit: "voxels" or "mm" of the case, or of a common grid, as "voxels of 160x160x80"; policy: its name.
    """
    measured = [metric for metric in scores if metric != "empty"]
    return [
        {"case": case, "class": k + 1, "name": (names or {}).get(k + 1, "")}
        | {metric: float(scores[metric][k]) for metric in measured}
        | {"unit": unit, "empty": str(side), "policy": policy}
        for k, side in enumerate(scores["empty"])
    ]


def summarise(rows: Iterable[Row]) -> list[Row]:
    """Means over cases for each class, then a row "average" over these; apart for each unit and policy in the rows.

    nan is left out of the means. "cases" counts the cases, "empty" the rows that the policy decided, "left_out" those
    with a nan. Where rows have a "modality", the means over all cases come first (modality "all"), then those of each
    if there are several.
    """
    rows = list(rows)
    modalities = sorted({row["modality"] for row in rows if row.get("modality")})
    if not modalities:
        return _means(rows)
    groups = {ALL: rows}
    if len({row["modality"] for row in rows}) > 1:
        groups |= {m: [row for row in rows if row["modality"] == m] for m in modalities}
    return [row | {"modality": modality} for modality, members in groups.items() for row in _means(members)]


def _means(rows: Iterable[Row]) -> list[Row]:
    tables: dict[tuple[str, str], dict[int, list[Row]]] = {}
    for row in rows:
        tables.setdefault((row["unit"], row["policy"]), {}).setdefault(row["class"], []).append(row)
    summary: list[Row] = []
    for (unit, policy), classes in tables.items():
        means: list[Row] = []
        for c, members in sorted(classes.items()):
            measured = _measured(members[0])
            means.append(
                {"class": c, "name": members[0]["name"]}
                | {metric: _mean(row[metric] for row in members) for metric in measured}
                | {
                    "unit": unit,
                    "cases": len(members),
                    "empty": sum(row["empty"] != "" for row in members),
                    "left_out": sum(any(math.isnan(row[metric]) for metric in measured) for row in members),
                    "policy": policy,
                }
            )
        average = {metric: _mean(row[metric] for row in means) for metric in _measured(means[0])}
        counts = {key: sum(row[key] for row in means) for key in ("empty", "left_out")}
        cases = {row["case"] for members in classes.values() for row in members}
        summary += [*means, means[0] | {"class": "average", "name": "", "cases": len(cases)} | average | counts]
    return summary


def over_seeds(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Mean and population standard deviation over runs that differ in their seed; runs: the case rows by run.

    A row per class and "average", as of `summarise`: each metric's column is the mean of the runs' means, "METRIC_std"
    their deviation (of the runs' averages in the row "average"; published so). "seeds" counts the runs, "left_out"
    those with a nan, which the means leave out.

    Raises:
        UserError: no runs, or runs whose metrics, units, policies, cases or classes differ.
    """
    if not runs:
        raise UserError("scores: expected at least one run to take the mean of, found none")
    _check_alike(runs)
    # Processes write their cases in an order of their own; units and policies then come in one order for all runs.
    summaries = [summarise(sorted(rows, key=lambda row: (row["unit"], row["policy"]))) for rows in runs.values()]
    return [_over_seeds(members) for members in zip(*summaries, strict=True)]


def _over_seeds(members: Sequence[Row]) -> Row:
    first, measured = members[0], _measured(members[0])
    row: Row = {"class": first["class"], "name": first["name"]}
    for metric in measured:
        means = [member[metric] for member in members if not math.isnan(member[metric])]
        row |= {metric: _mean(means), metric + STD: statistics.pstdev(means) if means else math.nan}
    left_out = sum(any(math.isnan(member[metric]) for metric in measured) for member in members)
    row |= {"unit": first["unit"], "cases": first["cases"], "seeds": len(members), "left_out": left_out}
    return row | {key: first[key] for key in ("policy", "modality") if key in first}


def _check_alike(runs: Mapping[str, Sequence[Row]]) -> None:
    contents = {name: _content(rows) for name, rows in runs.items()}
    first = next(iter(contents))
    for what, expected in contents[first].items():
        different = [
            f"{', '.join(sorted(more)[:3]) or 'no ' + ', '.join(sorted(expected - content[what])[:3])} in {name}"
            for name, content in contents.items()
            if (more := content[what] - expected) or content[what] != expected
        ]
        if different:
            found = "; ".join(different)
            raise UserError(
                f"scores: expected the same {what} in every run as in {first}, found {found}; "
                "compare runs that were evaluated alike"
            )


def _content(rows: Iterable[Row]) -> dict[str, set[str]]:
    """What runs must have in common to be compared, as what an error message may call it."""
    content: dict[str, set[str]] = {}
    for row in rows:
        case = f"{row['case']} {row.get('modality', '')}".strip()
        for what, found in {
            "metrics": _measured(row),
            "units": [row["unit"]],
            "policies": [row["policy"]],
            "classes": [f"{row['class']} {row['name']}".strip()],
            "cases": [case],
            "rows": [f"class {row['class']} of case {case}"],
        }.items():
            content.setdefault(what, set()).update(found)
    return content


def read_scores_csv(path: str | Path) -> list[Row]:
    """The rows of `case_rows` that were written to the file, their numbers as numbers.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    expected = f"{path}: expected the scores per case and class that an evaluation wrote, found"
    again = "evaluate again"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{expected} no readable text ({error}); {again}") from error
    if not rows:
        raise UserError(f"{expected} no row; {again}")
    missing = [key for key in CASE_KEYS if key not in rows[0]]
    if missing:
        raise UserError(f"{expected} no column {', '.join(missing)}; {again}")
    for line, row in enumerate(rows, start=2):
        try:
            row |= {"class": int(row["class"])} | {metric: float(row[metric]) for metric in _measured(row)}
        except (TypeError, ValueError):
            raise UserError(f"{expected} other than numbers in line {line}; {again}") from None
    return rows


def write_scores_csv(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows of `case_rows`, `summarise` or `over_seeds`, whole or not at all; overlaps from 0 to 1, nan as "nan".

    The summary belongs into a file of its own, so that every column of the scores has one meaning.

    Raises:
        UserError: no rows, or the file cannot be written.
    """
    if not rows:
        raise UserError(f"{path}: expected scores of at least one case to write, found none")
    written = [{k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    with replacing(path, "the scores") as partial:
        partial.write_text(csv_text(written), encoding="utf-8", newline="")


def csv_text(rows: Sequence[Row]) -> str:
    """Rows of the same columns, one or more, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def text_table(rows: Sequence[Row]) -> str:
    """Rows of `summarise` or `over_seeds` as lines to print; standard deviations in brackets, nan as "-"."""
    metrics = [column for column in _measured(rows[0]) if not column.endswith(STD)]
    table = [["class", *metrics]]
    for row in rows:
        group = "" if row.get("modality", ALL) == ALL else f", {row['modality']}"
        table.append([f"{row['name'] or row['class']}{group}", *(_cell(row, metric) for metric in metrics)])
    names, *columns = zip(*table, strict=True)
    lines = [[f"  {name:<{max(map(len, names))}}" for name in names]]
    lines += [[f"{cell:>{max(10, 2 + max(map(len, column)))}}" for cell in column] for column in columns]
    return "\n".join(map("".join, zip(*lines, strict=True)))


def _cell(row: Row, metric: str) -> str:
    if math.isnan(row[metric]):
        return "-"
    return f"{row[metric]:.4f}" + (f" ({row[metric + STD]:.4f})" if metric + STD in row else "")


def _measured(row: Row) -> list[str]:
    return [column for column in row if column not in KEYS]


def _mean(values: Iterable[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return math.fsum(kept) / len(kept) if kept else math.nan


def class_names(labels: Mapping[str | int, str]) -> dict[int, str]:
    """The config's {"1": "liver", ...} with class ids as numbers."""
    return {int(c): name for c, name in labels.items()}
