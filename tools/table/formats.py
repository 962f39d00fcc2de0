"""A table as Markdown, LaTeX or CSV."""

from __future__ import annotations

import math
from collections.abc import Callable

from scripts.scoring.tables import STD, Row, csv_text

from ..compare.request import FULLY_SUPERVISED
from .layout import BOUNDED, DECIMALS, Cell, Column, Line, Table
from .notes import FLAGS
from .results import ARMS, Results

SUPERSCRIPTS = "⁰¹²³"
MARKS = (r"%s", r"\textbf{%s}", r"\underline{%s}", r"\textit{%s}")  # by rank
LATEX = {letter: f"\\{letter}" for letter in "&%_#{}$"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
LATEX |= {"^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "<": "$<$", ">": "$>$"}
FLAG_WORDS = dict(zip(FLAGS, ("average", "jaccard"), strict=True))


def markdown(table: Table) -> str:
    """A table per block whose best three figures are numbered, the best also bold, and the notes as a list."""

    def show(cell: Cell) -> str:
        text = _measured(cell)
        if cell.rank:
            text = f"**{text}** ¹" if cell.rank == 1 else f"{text} {SUPERSCRIPTS[cell.rank]}"
        text += _bounds(cell)
        return text if cell.published is None else f"{text} ({cell.published}{cell.flags})"

    lines = [f"### {table.title}", ""]
    for title, columns in table.blocks.items():
        rows = [[f"**{title}**", *(table.headings[column] for column in columns)]]
        for group, members in table.groups.items():
            rows.append([f"*{group}*", *("" for _ in columns)])
            rows += [[line.title, *(show(line.cells[column]) for column in columns)] for line in members]
        lines += [*aligned(rows), ""]
    notes = ["¹ ² ³: the best of a column" + _who_competes(table), *table.notes]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def latex(table: Table) -> str:
    """A table* per block, with booktabs and adjustbox; the best figures are bold, underlined and italic."""

    def show(cell: Cell) -> str:
        text = MARKS[cell.rank] % _escaped(_measured(cell)) + _bounds(cell)
        return text if cell.published is None else f"{text} {_escaped(f'({cell.published}{cell.flags})')}"

    notes = ["bold, underlined, italic: the best three of a column" + _who_competes(table), *table.notes]
    below = [r"\par\medskip\raggedright\footnotesize", ".\n".join(map(_escaped, notes)) + "."]
    lines = [r"% \usepackage{booktabs,adjustbox}"]
    for title, columns in table.blocks.items():
        width = 1 + len(columns)
        lines += [r"\begin{table*}", r"\centering\small", rf"\caption{{{_escaped(f'{table.title}. {title}')}}}"]
        lines.append(r"\begin{adjustbox}{max width=\textwidth}")
        lines += [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
        lines.append(" & ".join(map(_escaped, ["", *(table.headings[column] for column in columns)])) + r" \\")
        for group, members in table.groups.items():
            lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_escaped(group)}}}}} \\"]
            lines += [
                " & ".join([_escaped(line.title), *(show(line.cells[column]) for column in columns)]) + r" \\"
                for line in members
            ]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", *below, r"\end{table*}"]
        below = []  # once is enough
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """A line per method: figures with their deviations, ranks, published figures, and the settings they belong to."""
    rows: list[Row] = [
        {
            "group": group,
            "name": line.name,
            "settings": ARMS[line.arm],
            "method": line.title,
            "seeds": " ".join(map(str, line.seeds)),
        }
        | {key: value for column in table.columns for key, value in _fields(column, line, table.compared).items()}
        | table.settings
        for group, members in table.groups.items()
        for line in members
    ]
    return csv_text(rows)


def run_list(results: Results) -> str:
    """A line per run and class, as CSV: means over the cases, and the run's time, commits and model.pt."""
    rows = []
    for run in results.runs:
        commits = " ".join(code["commit"][:10] + "+" * code["dirty"] for code in run.state.get("code", []))
        about = {"seconds": run.state.get("seconds", ""), "commits": commits, "sha256": run.state.get("sha256", "")}
        for row in run.rows:
            scores = {key: value for key, value in row.items() if not key.endswith(STD) and key != "seeds"}
            scores |= {key: f"{value:.6f}" for key, value in scores.items() if isinstance(value, float)}
            rows.append({"method": run.method, "settings": ARMS[run.arm], "seed": run.seed} | scores | about)
    return csv_text(rows)


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex, "csv": comma_separated}


def _measured(cell: Cell) -> str:
    if math.isnan(cell.value):
        return "-"
    return f"{cell.value:.{DECIMALS}f}" + ("" if math.isnan(cell.std) else f" ± {cell.std:.{DECIMALS}f}")


def _bounds(cell: Cell) -> str:
    return (
        "" if math.isnan(cell.interval[0]) else f" [{cell.interval[0]:.{DECIMALS}f}, {cell.interval[1]:.{DECIMALS}f}]"
    )


def aligned(rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table, padded so that the text itself is a table, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"| {row[0]:<{widths[0]}} |" + "".join(f" {cell:>{w}} |" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (w + 1)}:|" for w in widths[1:])
    return [lines[0], rule, *lines[1:]]


def _who_competes(table: Table) -> str:
    """With whom a method competes: with those of the same settings, and not with an upper bound."""
    several = len({line.arm for lines in table.groups.values() for line in lines}) > 1
    bound = any(line.name == FULLY_SUPERVISED for lines in table.groups.values() for line in lines)
    among = ", among the published and among the tuned settings apart" if several else ""
    return among + (", without the fully supervised one" if bound else "")


def _fields(column: Column, line: Line, compared: bool) -> dict[str, str]:
    name, cell = f"{column.metric} {column.region}", line.cells[column]
    fields = {name: _number(cell.value), f"{name} std": _number(cell.std), f"{name} rank": str(cell.rank or "")}
    if column == BOUNDED:
        fields |= {f"{name} {end}": _number(value) for end, value in zip(("low", "high"), cell.interval, strict=True)}
    if compared:
        published = {"value": "", "std": ""} if cell.published is None else vars(cell.published)
        fields |= {f"{name} published": published["value"], f"{name} published std": published["std"]}
        fields[f"{name} contradiction"] = " ".join(FLAG_WORDS[flag] for flag in cell.flags)
    return fields


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
