"""What the checks have found, gathered so that the user hears all of it at once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from scripts.errors import UserError, did_you_mean, printable

LONGEST = 4000  # characters of a line
LONGEST_HINT = 160  # characters; a longer list of choices would bury the message


class Findings:
    """Problems, which keep a config or a data set from being used as meant, and notes, which are only worth knowing."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def problem(self, where: str, text: str) -> None:
        """Note a problem at the id, option or file `where`."""
        self._found.append((where, text))

    def add(self, file: Path, expected: str, found: str, fix: str) -> None:
        """Note a problem of a file or folder: what was expected, what was found, and what to do."""
        text = f"expected {expected}, found {found}; {fix}"
        self.problem(printable(str(file), LONGEST), printable(text, LONGEST))  # names of files are data

    def error(self, error: UserError, fix: str = "") -> None:
        """Note a problem that was raised, with what to do about it unless the message says so itself."""
        where, _, text = str(error).partition(": ")
        self.problem(where, f"{text}; {fix}" if fix else text)

    def note(self, text: str) -> None:
        """Note what does not keep anything from being used."""
        self.notes.append(text)

    @property
    def lines(self) -> list[str]:
        """One line per problem and place, in the order in which they were found."""
        return [f"{where}: {text}" for where, text in self._found]

    @property
    def problems(self) -> list[str]:
        """One line per problem, with all its places: a setting may be wrong in several."""
        places: dict[str, dict[str, None]] = {}
        for where, text in self._found:
            places.setdefault(text, {})[where] = None
        return [f"{', '.join(where)}: {text}" for text, where in places.items()]

    def raise_if_any(self, source: str) -> None:
        """Raise a UserError with one line per problem of `source`, if there is any; a single one is one line in all."""
        lines = self.problems
        if len(lines) == 1:
            raise UserError(f"{source}: {lines[0]}")
        if lines:
            raise UserError("\n  ".join([f"{source}: {len(lines)} problems", *lines]))

    def raise_before_writing(self, folder: Path) -> None:
        """Raise a UserError with one line per file of a data set that has a problem, before anything is written."""
        if len(self._found) == 1:
            raise UserError(f"{self.lines[0]}; nothing was written")
        if self._found:
            summary = f"{len(self._found)} problems in {folder}; nothing was written:"
            raise UserError("\n  ".join([summary, *self.lines]))


def hint(word: object, known: Collection[str]) -> str:
    """The end of a message about an unknown `word`: a close name, or all of them where they are few."""
    answer = did_you_mean(str(word), known) if known else ""
    return f"; {answer}" if 0 < len(answer) <= LONGEST_HINT else ""
