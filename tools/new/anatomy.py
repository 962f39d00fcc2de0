"""What classes are called in DICOM, and their colours: codes where the name is known, colours for all."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.files import read_json

from ..common.paths import BUNDLES

FILE = Path(__file__).with_name("anatomy.json")
CATEGORY = {"value": "91723000", "meaning": "Anatomical Structure"}
SIDES = {
    "right": {"value": "24028007", "meaning": "Right"},
    "left": {"value": "7771000", "meaning": "Left"},
}
GOLDEN = 0.618033988749895  # of the circle of hues, from one unknown class to the next


def segments(classes: Mapping[int, str]) -> tuple[dict[str, Any], list[str]]:
    """The content of a bundle's segments.json, and the names of the classes without a code of their own."""
    known = _known()
    found, unknown = {}, []
    for number, name in classes.items():
        entry = known.get(_plain(name)) or _paired(name, known)
        if entry is None:
            unknown.append(name)
            entry = {"type": CATEGORY, "colour": _colour(number)}
        found[str(number)] = {"name": name, **{key: value for key, value in entry.items() if key != "name"}}
    return {"scheme": "SCT", "category": CATEGORY, "segments": found}, unknown


def _known() -> dict[str, dict[str, Any]]:
    """Entries by plain name: of the built-in bundles, and of anatomy.json, which also has other names for them."""
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted(BUNDLES.glob("dca_*/configs/segments.json")):
        for entry in read_json(path, "list of DICOM segments")["segments"].values():
            entries.setdefault(_plain(entry["name"]), entry)
    own = read_json(FILE, "list of structures")
    for name, (value, meaning, colour) in own["structures"].items():
        entries.setdefault(name, {"type": {"value": value, "meaning": meaning}, "colour": colour})
    for name, other in own["also"].items():
        entries.setdefault(name, entries[other])
    return entries


def _paired(name: str, known: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """A known structure of one side, such as "left lung"."""
    words = _plain(name).split()
    sides = [word for word in words if word in SIDES]
    entry = known.get(" ".join(word for word in words if word not in SIDES)) if len(sides) == 1 else None
    return None if entry is None else {**entry, "side": SIDES[sides[0]]}


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[a-z]+", name.lower()))


def _colour(number: int) -> list[int]:
    """Neighbouring numbers get hues that are far apart."""
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN % 1, 0.55, 0.65)
    return [round(255 * part) for part in (red, green, blue)]
