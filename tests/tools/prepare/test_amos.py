"""`prepare amos`: the official layout with its two modalities, and the faults of a download."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.data.datalists import load_split
from tests.tools.abdominal_downloads import (
    CT,
    MR,
    Prepare,
    add_image,
    add_label,
    assert_fault,
    cases,
    decompress,
    describe_amos,
    make_amos,
    shift,
    truncate,
)
from tests.tools.acdc_download import SHAPE, noted, save
from tools.__main__ import main

LAYOUT = "amos"
IMAGE = "imagesTr/amos_0004.nii.gz"
LABEL = "labelsTr/amos_0004.nii.gz"
MR_IMAGE = "imagesVa/amos_0544.nii.gz"
LABELLED = {"amos_0001", "amos_0004", "amos_0507", "amos_0008", "amos_0544"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_amos(tmp_path / "download")


def test_records_hold_what_the_files_hold(source: Path, prepare: Prepare, output: Path) -> None:
    code, printed = prepare(source)
    assert code == 0
    assert printed.startswith("AMOS: 5 patients, 5 cases (3 CT, 2 MR), 5 of them labelled\n")
    content = json.loads((output / "datalist.json").read_text())
    assert content["name"] == "AMOS"
    assert content["modality"] == "CT+MR"
    assert list(content["labels"]) == [str(key) for key in range(16)]
    assert content["labels"]["10"] == "pancreas"
    image, label = source / "imagesTr" / "amos_0001.nii.gz", source / "labelsTr" / "amos_0001.nii.gz"
    assert content["cases"][0] == {
        "id": "amos_0001",
        "patient": "amos_0001",
        "modality": "CT",
        **noted(image, label),
        "voxels": {str(key): {1: 12, 2: 6, 13: 2}.get(key, 0) for key in range(1, 16)},
    }
    assert {case["id"]: case["modality"] for case in content["cases"]} == {
        "amos_0001": "CT",
        "amos_0004": "CT",
        "amos_0008": "CT",
        "amos_0507": "MR",
        "amos_0544": "MR",
    }


@pytest.mark.parametrize("start", [".", "amos22", "AMOS22", "amos22/amos22"])
def test_a_download_may_be_named_at_any_of_its_levels(
    start: str, prepare: Prepare, tmp_path: Path, output: Path
) -> None:
    make_amos(tmp_path / "download" / start)
    assert prepare(tmp_path / "download")[0] == 0
    assert cases(output).keys() == LABELLED


def test_training_needs_the_training_part_alone(source: Path, prepare: Prepare, output: Path) -> None:
    for part in ("imagesVa", "labelsVa", "imagesTs"):
        shutil.rmtree(source / part)
    describe_amos(source, validation=None)
    assert prepare(source)[0] == 0
    assert cases(output).keys() == {"amos_0001", "amos_0004", "amos_0507"}


def test_uncompressed_files_are_read_and_count_as_listed(source: Path, prepare: Prepare, output: Path) -> None:
    for name in (IMAGE, LABEL):
        decompress(source / name)
    code, printed = prepare(source)
    assert code == 0
    assert "not listed" not in printed
    assert cases(output)["amos_0004"]["image"].endswith("imagesTr/amos_0004.nii")


def test_modality_reaches_the_items_of_training(source: Path, prepare: Prepare, output: Path, tmp_path: Path) -> None:
    assert prepare(source)[0] == 0
    split = {
        "train": ["amos_0001", "amos_0507"],
        "validation": ["amos_0544"],
        "labelled": {"50": ["amos_0001"]},
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    roles = load_split(output / "datalist.json", tmp_path / "split.json", 50)
    found = {role: [item["modality"] for item in items] for role, items in roles.items()}
    assert found == {"labelled": ["CT"], "unlabelled": ["MR"], "validation": ["MR"], "test": []}


def test_images_for_the_challenge_are_left_out_or_taken_as_unlabelled(
    source: Path, prepare: Prepare, output: Path
) -> None:
    code, printed = prepare(source)
    assert code == 0
    assert "note: images without a label in imagesTs: 1 left out; --allow-unlabelled takes them" in printed
    code, printed = prepare(source, "--allow-unlabelled")
    assert code == 0
    assert "imagesTs" not in printed
    assert "6 cases (4 CT, 2 MR), 5 of them labelled" in printed
    record = cases(output)["amos_0002"]
    assert record["modality"] == "CT"
    assert record.keys() & {"label", "voxels"} == set()
    assert record["sha256"].keys() == {"image"}


def test_images_for_the_challenge_that_have_a_label_are_used(source: Path, prepare: Prepare, output: Path) -> None:
    add_label(source / "labelsTs" / "amos_0002.nii.gz")
    assert prepare(source)[0] == 0
    assert cases(output)["amos_0002"]["label"].endswith("labelsTs/amos_0002.nii.gz")


def test_a_lost_label_is_a_fault_unless_unlabelled_cases_are_welcome(
    source: Path, prepare: Prepare, output: Path
) -> None:
    (source / LABEL).unlink()
    assert_fault(prepare(source), source / LABEL, "the label of amos_0004.nii.gz, found no such file", output)
    code, printed = prepare(source, "--allow-unlabelled")
    assert code == 0
    assert "6 cases (4 CT, 2 MR), 4 of them labelled" in printed
    assert "label" not in cases(output)["amos_0004"]


def foreign_label_value(source: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[:2, :3, 0] = 16
    save(source / LABEL, label)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated image": (lambda s: truncate(s / IMAGE), IMAGE, "found a truncated or otherwise unreadable file"),
    "other shape": (
        lambda s: save(s / LABEL, np.ones((12, 10, 4), np.uint8)),
        LABEL,
        "expected its image's shape 12 x 10 x 3, found 12 x 10 x 4",
    ),
    "other affine": (
        lambda s: shift(s / LABEL),
        LABEL,
        "expected its image's affine, found one that moves a corner by 2.5 mm",
    ),
    "foreign label value": (foreign_label_value, LABEL, "15 prostate or uterus, found 16 (6 voxels)"),
    "label without image": (
        lambda s: add_label(s / "labelsVa" / "amos_0013.nii.gz"),
        "labelsVa/amos_0013.nii.gz",
        "expected its image imagesVa/amos_0013.nii.gz, found none",
    ),
    "compressed and not": (
        lambda s: decompress(s / IMAGE, keep=True),
        IMAGE,
        "expected each case once, found the same number in amos_0004.nii; remove one of the two",
    ),
    "same id in two parts": (
        lambda s: [
            shutil.copy(s / f"{kind}Tr" / "amos_0004.nii.gz", s / f"{kind}Va" / "amos_0004.nii.gz")
            for kind in ("images", "labels")
        ],
        "imagesVa/amos_0004.nii.gz",
        "expected each case once, found another one at ",
    ),
    "MR under an id of CT": (
        lambda s: add_image(s / IMAGE, MR),
        IMAGE,
        "expected CT in Hounsfield units for an id up to 500, found no value below -50 (0 to 1200); ",
    ),
    "CT under an id of MR": (
        lambda s: add_image(s / MR_IMAGE, CT),
        MR_IMAGE,
        "expected MR for an id above 500, found 68% of the voxels below -50, as in Hounsfield units; ",
    ),
    "no images": (
        lambda s: [path.unlink() for path in (*s.glob("images*/*"), *s.glob("labels*/*"), s / "dataset.json")],
        ".",
        "expected imagesTr/amos_NNNN.nii.gz with labelsTr/, and imagesVa/ with labelsVa/, found no such file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line_with_file_expected_found_and_fix_and_writes_nothing(
    fault: str, source: Path, prepare: Prepare, output: Path
) -> None:
    spoil, file, message = FAULTS[fault]
    spoil(source)
    assert_fault(prepare(source), source / file, message, output)


def test_mr_may_have_a_few_negative_voxels(source: Path, prepare: Prepare) -> None:
    add_image(source / MR_IMAGE, (-200, 1200))  # 11 % below -50: ringing of an interpolation
    assert prepare(source)[0] == 0


def test_all_faults_are_reported_at_once(source: Path, prepare: Prepare, output: Path) -> None:
    add_image(source / MR_IMAGE, CT)
    foreign_label_value(source)
    describe_amos(source, labels={}, modality={"0": "T1"})
    (source / "imagesTr" / "amos_0001.nii.gz").unlink()
    code, error = prepare(source)
    assert code == 2
    first, *lines = error.splitlines()
    assert first == f"error: 6 problems in {source}; nothing was written:"
    assert [line.split(": expected ")[0].strip() for line in lines] == [
        str(source / name) for name in ("labelsTr/amos_0001.nii.gz", *["dataset.json"] * 3, LABEL, MR_IMAGE)
    ]
    assert not output.exists()


def test_wrong_folder_is_named_with_what_it_holds(source: Path, prepare: Prepare, output: Path) -> None:
    found = "amos_0001.nii.gz, amos_0004.nii.gz, amos_0507.nii.gz"
    message = f"found {found}; pass the folder of the unpacked download (the one with imagesTr/) as --source"
    assert_fault(prepare(source / "imagesTr"), source / "imagesTr", message, output)


@pytest.mark.parametrize(("typed", "meant"), [("amoss", "amos"), ("synaps", "synapse")])
def test_unknown_layout_is_answered_with_the_closest_one(
    typed: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", typed, "--source", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert f"unknown data set '{typed}'; did you mean '{meant}'?" in capsys.readouterr().err
