"""`prepare amos`: what dataset.json says, compared with the files and with the layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.abdominal_downloads import (
    AMOS_LABELS,
    Prepare,
    assert_fault,
    cases,
    describe_amos,
    make_amos,
)

LAYOUT = "amos"
DESCRIPTION = "dataset.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A download without the images of the challenge, of which a note would tell."""
    folder = make_amos(tmp_path / "download")
    shutil.rmtree(folder / "imagesTs")
    return folder


def notes(result: tuple[int, str]) -> list[str]:
    """The notes of a run that succeeded."""
    code, printed = result
    assert code == 0, printed
    return [line.removeprefix("  note: ") for line in printed.splitlines() if line.startswith("  note: ")]


def test_official_description_names_ct_alone_which_a_note_sets_right(source: Path, prepare: Prepare) -> None:
    assert notes(prepare(source)) == ["dataset.json names only CT: by their ids, 2 cases are MR"]


@pytest.mark.parametrize("modality", [{"0": "CT", "1": "MRI"}, ["CT", "MR"], "CT and MRI", None])
def test_description_that_names_both_modalities_or_none_gives_no_note(
    modality: Any, source: Path, prepare: Prepare
) -> None:
    describe_amos(source, modality=modality)
    assert notes(prepare(source)) == []


def test_without_a_description_a_note_says_that_the_ids_told_the_modality(source: Path, prepare: Prepare) -> None:
    (source / DESCRIPTION).unlink()
    assert notes(prepare(source)) == ["no dataset.json: only the ids told CT from MR, and the intensities agree"]


def test_images_that_the_description_does_not_list_are_noted(source: Path, prepare: Prepare, output: Path) -> None:
    describe_amos(source, modality=None, validation=[{"image": "./imagesVa/amos_0008.nii.gz"}])
    assert notes(prepare(source)) == ["images that dataset.json does not list: 1 (imagesVa/amos_0544.nii.gz)"]
    assert cases(output).keys() == {"amos_0001", "amos_0004", "amos_0507", "amos_0008", "amos_0544"}


def test_a_description_without_lists_gives_no_note(source: Path, prepare: Prepare) -> None:
    describe_amos(source, modality=None, training=None, validation=None, test=None)
    assert notes(prepare(source)) == []


def test_labels_may_be_described_from_names_to_ids(source: Path, prepare: Prepare) -> None:
    describe_amos(source, labels={name: key for key, name in enumerate(AMOS_LABELS)}, modality=None)
    assert notes(prepare(source)) == []


def described(**changes: Any) -> Callable[[Path], None]:
    return lambda source: describe_amos(source, **changes)


def relabelled(**names: str | None) -> Callable[[Path], None]:
    """A description whose class idN is named so, or is missing."""
    changes = {key.removeprefix("id"): name for key, name in names.items()}
    labels = {str(key): name for key, name in enumerate(AMOS_LABELS)} | changes
    return described(labels={key: name for key, name in labels.items() if name is not None})


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "listed image missing": (
        lambda s: [(s / part / "amos_0008.nii.gz").unlink() for part in ("imagesVa", "labelsVa")],
        "expected every image that it lists, found no ./imagesVa/amos_0008.nii.gz; ",
    ),
    "organs swapped": (
        relabelled(id11="left adrenal gland", id12="right adrenal gland"),
        "expected the labels 11 right adrenal gland, 12 left adrenal gland, "
        "found 11 left adrenal gland, 12 right adrenal gland; ",
    ),
    "organ missing": (relabelled(id15=None), "the labels 15 prostate or uterus, found 15 missing; "),
    "organ too many": (relabelled(id16="colon"), "the labels 16 unused, found 16 colon; "),
    "labels of another kind": (described(labels=["spleen"]), "labels as ids with names, found ['spleen']"),
    "other modality": (described(modality={"0": "T1"}), "expected CT or MRI as its modality, found T1; "),
    "list of another kind": (described(training=7), "expected a list of files at 'training', found 7; "),
    "entry of another kind": (
        described(test=[{"label": "x"}]),
        "expected a list of files at 'test', found [{'label': 'x'}]; ",
    ),
    "not JSON": (lambda s: (s / DESCRIPTION).write_text("{"), "found text that does not parse"),
    "JSON of another kind": (lambda s: (s / DESCRIPTION).write_text("[]"), "found a list; download it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_contradiction_is_one_line_with_what_to_do_and_writes_nothing(
    fault: str, source: Path, prepare: Prepare, output: Path
) -> None:
    spoil, message = FAULTS[fault]
    spoil(source)
    assert_fault(prepare(source), source / DESCRIPTION, message, output)
