"""Codes and colours of classes by their names."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from scripts.files import read_json
from tools.new.anatomy import FILE, segments


def test_a_known_name_has_its_code_however_it_is_written() -> None:
    found, unknown = segments({1: "Liver", 2: "RIGHT_KIDNEY", 3: "esophagus", 4: "left lung", 5: "LV"})
    entries = found["segments"]
    assert [entries[str(c)]["type"]["value"] for c in range(1, 6)] == [
        *("10200004", "64033007", "32849002", "39607008", "87878005")
    ]
    assert entries["2"]["side"]["meaning"] == "Right"
    assert entries["4"]["side"]["meaning"] == "Left"
    assert entries["3"]["name"] == "esophagus"  # as the user has it
    assert unknown == []


def test_an_unknown_name_is_told_and_gets_a_general_code_and_a_colour_of_its_own() -> None:
    found, unknown = segments({c: f"class {c}" for c in range(1, 16)})
    assert unknown == [f"class {c}" for c in range(1, 16)]
    entries = found["segments"].values()
    assert {entry["type"]["value"] for entry in entries} == {"91723000"}
    colours = [tuple(entry["colour"]) for entry in entries]
    nearest = min(sum(abs(x - y) for x, y in zip(a, b, strict=True)) for a in colours for b in colours if a != b)
    assert len(set(colours)) == 15
    assert nearest > 20


def test_a_name_of_both_sides_is_unknown() -> None:
    _, unknown = segments({1: "left right kidney"})
    assert unknown == ["left right kidney"]


@pytest.mark.parametrize("name", list(read_json(FILE, "structures")["structures"]))
def test_codes_are_those_of_dicoms_dictionary(name: str) -> None:
    value, _, colour = read_json(FILE, "structures")["structures"][name]
    known = {getattr(codes.SCT, keyword).value for keyword in codes.SCT.dir()}
    assert value in known
    assert len(colour) == 3
