"""The codes of the bundles' organs are those of SNOMED CT, as pydicom's dictionary has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from scripts.errors import UserError
from tools.dicom.segments import Segments, read_segments

BUNDLES = sorted(p.parent.parent for p in Path("bundles").glob("dca_*/configs/metadata.json"))


@pytest.fixture(params=BUNDLES, ids=lambda bundle: bundle.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def segments(bundle: Path) -> Segments:
    return read_segments(bundle)


def test_segments_are_named_as_the_classes_of_the_bundle(bundle: Path, segments: Segments) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert {0: "background"} | {c: s.name for c, s in segments.by_class.items()} == {
        int(c): name for c, name in channels.items()
    }


def test_value_and_meaning_of_every_code_stand_in_the_dictionary(segments: Segments) -> None:
    meanings: dict[str, set[str]] = {}
    for code in codes.SCT.concepts.values():
        meanings.setdefault(code.value, set()).add(code.meaning)
    for segment in segments.by_class.values():
        for code in (segment.category, segment.type, segment.side, *segment.structures):
            if code is not None:
                assert code.scheme_designator == "SCT"
                assert code.meaning in meanings[code.value], code


ORGANS: dict[str, tuple[Code, Code | None]] = {
    "spleen": (codes.SCT.Spleen, None),
    "right kidney": (codes.SCT.Kidney, codes.SCT.Right),
    "left kidney": (codes.SCT.Kidney, codes.SCT.Left),
    "liver": (codes.SCT.Liver, None),
    "right adrenal gland": (codes.SCT.AdrenalGland, codes.SCT.Right),
    "left adrenal gland": (codes.SCT.AdrenalGland, codes.SCT.Left),
    "oesophagus": (codes.SCT.Esophagus, None),
    "bladder": (codes.SCT.Bladder, None),
    "right ventricle": (codes.SCT.RightVentricle, None),
    "left ventricle": (codes.SCT.LeftVentricle, None),
    "myocardium": (codes.SCT.LeftVentricleMyocardium, None),
}


def test_codes_mean_the_organs_that_they_are_given_to(segments: Segments) -> None:
    found = {s.name: (s.type, s.side) for s in segments.by_class.values() if s.name in ORGANS}
    assert found == {name: ORGANS[name] for name in found}
    assert len(found) >= 3


def test_a_side_is_given_where_the_name_has_one_and_nowhere_else(segments: Segments) -> None:
    for segment in segments.by_class.values():
        first = segment.name.split()[0]
        paired = "ventricle" not in segment.name and first in ("left", "right")
        assert (segment.side.meaning.lower() if segment.side else None) == (first if paired else None)


def test_no_two_classes_have_the_same_code_or_colour(segments: Segments) -> None:
    classes = segments.by_class.values()
    assert len({(s.type.value, s.side and s.side.value) for s in classes}) == len(classes)
    assert len({s.colour for s in classes}) == len(classes)


def test_organs_have_the_same_code_and_colour_in_all_bundles() -> None:
    seen: dict[str, object] = {}
    for bundle in BUNDLES:
        for segment in read_segments(bundle).by_class.values():
            assert seen.setdefault(segment.name, segment) == segment


def test_only_the_heart_has_an_end_systole() -> None:
    smallest = {bundle.name: read_segments(bundle).smallest_at_end_systole for bundle in BUNDLES}
    assert {name: c for name, c in smallest.items() if c} == {"dca_acdc": 3}


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "segments.json").write_text('{"scheme": "SCT", "segments": {"1": {"name": "liver"}}}')
    with pytest.raises(UserError, match=r"segments\.json: expected the key"):
        read_segments(tmp_path)
