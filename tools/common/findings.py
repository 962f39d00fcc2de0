"""What the checks have found, gathered so that the user hears all of it at once."""

from __future__ import annotations

from collections.abc import Collection

from scripts.errors import UserError, did_you_mean

LONGEST_HINT = 160  # characters; a longer list of choices would bury the message


class Findings:
    """Problems, which keep the config from running as meant, and notes, which are only worth knowing."""

    def __init__(self) -> None:
        self._problems: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def problem(self, where: str, text: str) -> None:
        """Note a problem at the id, option or file `where`; the same problem in several places is one line."""
        places = self._problems.setdefault(text, [])
        if where not in places:
            places.append(where)

    def note(self, text: str) -> None:
        """Note what does not keep the config from running."""
        self.notes.append(text)

    @property
    def problems(self) -> list[str]:
        """One line per problem, in the order in which they were found."""
        return [f"{', '.join(places)}: {text}" for text, places in self._problems.items()]

    def raise_if_any(self, source: str) -> None:
        """Raise a UserError with one line per problem of `source`, if there is any; a single one is one line in all."""
        lines = self.problems
        if len(lines) == 1:
            raise UserError(f"{source}: {lines[0]}")
        if lines:
            raise UserError("\n  ".join([f"{source}: {len(lines)} problems", *lines]))


def hint(word: object, known: Collection[str]) -> str:
    """The end of a message about an unknown `word`: a close name, or all of them where they are few."""
    answer = did_you_mean(str(word), known) if known else ""
    return f"; {answer}" if 0 < len(answer) <= LONGEST_HINT else ""
