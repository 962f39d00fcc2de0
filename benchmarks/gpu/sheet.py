"""What has been measured so far: rows of numbers by subject, goals, and what failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from scripts.errors import first_line

Numbers = dict[str, Any]


class Sheet:
    """The rows of one subject, in the order in which they are measured.

    Args:
        subject: its name.
        save: called after each row and goal, so that a bench that is cut off leaves what it has.
    """

    def __init__(self, subject: str, save: Callable[[], None] = lambda: None) -> None:
        self.subject, self.save = subject, save
        self.rows: dict[str, Numbers] = {}
        self.goals: list[Numbers] = []

    def row(self, name: str, measure: Callable[[], Numbers]) -> Numbers | None:
        """Measure something; None if that failed, which is a row, too: {"error": one line}."""
        try:
            numbers = measure()
        except Exception as error:  # compilers and libraries raise their own
            self.fail(name, error)
            return None
        self._note(name, numbers)
        return numbers

    def fail(self, name: str, error: Exception) -> None:
        """Note that something could not be measured."""
        self._note(name, {"error": f"{type(error).__name__}: {first_line(error)}"})

    def _note(self, name: str, numbers: Numbers) -> None:
        self.rows[name] = numbers
        print(f"{self.subject}: {name}: {_told(numbers)}", file=sys.stderr, flush=True)
        self.save()

    def goal(self, what: str, found: float, most: float) -> None:
        """Note a goal: a number that may be at most so large."""
        self.goals.append({"what": what, "found": found, "at_most": most, "reached": found <= most})
        self.save()

    def content(self) -> Numbers:
        """All of it as plain values for the file."""
        return {"rows": self.rows, "goals": self.goals}

    @property
    def failed(self) -> bool:
        """Whether a row has an error and no numbers."""
        return any("error" in numbers for numbers in self.rows.values())


def table(subjects: Mapping[str, Numbers]) -> str:
    """The contents of sheets by subject, in Markdown: their rows, and then their goals."""
    lines = ["| subject | what | ms, minimum (median) | peak GiB | more |", "|---|---|---:|---:|---|"]
    for subject, content in subjects.items():
        for name, numbers in content["rows"].items():
            ms, peak = numbers.get("ms"), numbers.get("peak_gib")
            cells = [
                f"{short(ms['minimum'])} ({short(ms['median'])})" if ms else "",
                "" if peak is None else f"{peak:.3g}",
            ]
            cells.append(_told({key: value for key, value in numbers.items() if key not in ("ms", "peak_gib")}))
            lines.append(f"| {subject} | {name} | {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    goals = [goal for content in subjects.values() for goal in content["goals"]]
    if goals:
        lines += ["", "| goal | at most | found | |", "|---|---:|---:|---|"]
    for goal in goals:
        reached = "reached" if goal["reached"] else "**missed**"
        lines.append(f"| {goal['what']} | {short(goal['at_most'])} | {short(goal['found'])} | {reached} |")
    return "\n".join(lines)


def _told(numbers: Numbers) -> str:
    """Numbers as words: `ms 4.1, graph True`."""
    return ", ".join(f"{key} {_number(value)}" for key, value in numbers.items() if value is not None)


def _number(value: Any) -> str:
    value = value["minimum"] if isinstance(value, dict) else value
    return short(value) if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """A number with four digits, or with all before its point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
