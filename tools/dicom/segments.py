"""What a bundle's classes are called in DICOM: configs/segments.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.sr.coding import Code

from scripts.errors import UserError
from scripts.files import read_json


@dataclass(frozen=True)
class Segment:
    """One class of a bundle.

    name: as in the bundle's metadata; the label of the segment.
    category, type: what kind of thing it is, and which.
    side: left or right, for one of a pair.
    structures: the anatomical structures that it joins, where no single code names them.
    colour: red, green, blue, 0 to 255.
    """

    name: str
    category: Code
    type: Code
    side: Code | None
    structures: tuple[Code, ...]
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Segments:
    """The classes of a bundle by their id, and the one that is smallest at end-systole, for a bundle of the heart."""

    by_class: dict[int, Segment]
    smallest_at_end_systole: int | None = None


def read_segments(bundle: Path) -> Segments:
    """Read a bundle's configs/segments.json.

    Raises:
        UserError: the file is missing or lacks a key.
    """
    path = bundle / "configs" / "segments.json"
    content = read_json(path, "list of DICOM segments")
    try:
        segments = {int(c): _segment(entry, content) for c, entry in content["segments"].items()}
        smallest = content.get("smallest_at_end_systole")
    except KeyError as error:
        raise UserError(f"{path}: expected the key {error} for every segment, found none") from None
    return Segments(segments, None if smallest is None else int(smallest))


def _segment(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Segment:
    def code(item: Mapping[str, str]) -> Code:
        return Code(item["value"], content["scheme"], item["meaning"])

    red, green, blue = entry["colour"]
    return Segment(
        name=entry["name"],
        category=code(content["category"]),
        type=code(entry["type"]),
        side=code(entry["side"]) if "side" in entry else None,
        structures=tuple(code(item) for item in entry.get("structures", [])),
        colour=(red, green, blue),
    )
