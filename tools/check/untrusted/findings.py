"""What was found in a foreign bundle, in words that a terminal can show."""

from __future__ import annotations

from typing import NamedTuple

LONGEST = 160  # characters shown of what a stranger wrote


class Finding(NamedTuple):
    """Something to look at before the bundle is used.

    Args:
        file: where it is; `a.zip!b` is b in a.zip.
        place: the key path or line in the file, "" for the file as a whole.
        kind: what it is, such as "expression"; the summary counts by it.
        what: as it stands in the file.
        why: what it could do.
    """

    file: str
    place: str
    kind: str
    what: str
    why: str

    def __str__(self) -> str:
        places = [shown(text) for text in (self.file, self.place) if text]
        return ": ".join([*places, f"{self.kind} {shown(self.what)}".strip(), self.why])


def shown(text: str) -> str:
    """The text on one line: cut, and without characters that could command a terminal or hide others."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text)
