"""`prepare synapse`: the official layout, and the faults of a download."""

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
    make_synapse,
    shift,
    truncate,
)
from tests.tools.acdc_download import SHAPE, noted, save

LAYOUT = "synapse"
IMAGE = "img/img0002.nii.gz"
LABEL = "label/label0002.nii.gz"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_synapse(tmp_path / "download")


def test_records_hold_what_the_files_hold(source: Path, prepare: Prepare, output: Path) -> None:
    code, printed = prepare(source)
    assert code == 0
    assert printed.startswith("Synapse: 3 patients, 3 cases (3 CT), 3 of them labelled\n")
    content = json.loads((output / "datalist.json").read_text())
    assert content["name"] == "Synapse"
    assert content["modality"] == "CT"
    assert list(content["labels"]) == [str(key) for key in range(14)]
    assert content["labels"]["10"] == "portal and splenic veins"
    image, label = source / "img" / "img0001.nii.gz", source / "label" / "label0001.nii.gz"
    assert content["cases"][0] == {
        "id": "img0001",
        "patient": "0001",
        "modality": "CT",
        **noted(image, label),
        "voxels": {str(key): {1: 12, 2: 6, 13: 2}.get(key, 0) for key in range(1, 14)},
    }
    assert [case["id"] for case in content["cases"]] == ["img0001", "img0002", "img0026"]


@pytest.mark.parametrize("start", [".", "Training", "RawData/Training"])
def test_a_download_may_be_named_at_any_of_its_levels(
    start: str, prepare: Prepare, tmp_path: Path, output: Path
) -> None:
    make_synapse(tmp_path / "download" / start)
    assert prepare(tmp_path / "download")[0] == 0
    assert cases(output).keys() == {"img0001", "img0002", "img0026"}


def test_everything_else_in_a_download_is_passed_over(source: Path, prepare: Prepare, output: Path) -> None:
    (source / "img" / "._img0001.nii.gz").write_bytes(b"resource fork")
    (source / "img" / "img0009.txt").write_text("a note")
    add_image(source / "Testing" / "img" / "img0061.nii.gz", CT)
    assert prepare(source)[0] == 0
    assert len(cases(output)) == 3


def test_uncompressed_files_are_read(source: Path, prepare: Prepare, output: Path) -> None:
    for name in (IMAGE, LABEL):
        decompress(source / name)
    assert prepare(source)[0] == 0
    assert cases(output)["img0002"]["label"].endswith("label/label0002.nii")


def test_published_split_finds_its_patients(source: Path, prepare: Prepare, output: Path, tmp_path: Path) -> None:
    assert prepare(source)[0] == 0
    split = {"train": ["0001", "0002"], "validation": ["0026"], "labelled": {"50": ["0002"]}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    roles = load_split(output / "datalist.json", tmp_path / "split.json", 50)
    assert [item["id"] for item in roles["labelled"]] == ["img0002"]
    assert [item["modality"] for items in roles.values() for item in items] == ["CT"] * 3


def test_images_without_a_label_are_accepted_on_request_only(source: Path, prepare: Prepare, output: Path) -> None:
    (source / LABEL).unlink()
    assert_fault(prepare(source), source / LABEL, "the label of img0002.nii.gz, found no such file", output)
    code, printed = prepare(source, "--allow-unlabelled")
    assert code == 0
    assert "3 cases (3 CT), 2 of them labelled" in printed
    record = cases(output)["img0002"]
    assert record.keys() & {"label", "voxels"} == set()
    assert record["sha256"].keys() == {"image"}


def test_a_download_without_labels_is_accepted_on_request(source: Path, prepare: Prepare, output: Path) -> None:
    shutil.rmtree(source / "label")
    code, error = prepare(source)
    assert code == 2
    assert error.startswith(f"error: 3 problems in {source}; nothing was written:\n")
    code, printed = prepare(source, "--allow-unlabelled")
    assert code == 0
    assert "3 cases (3 CT), 0 of them labelled" in printed


def label_with(value: int) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        label = np.zeros(SHAPE, np.uint8)
        label[:2, :3, 0] = value
        save(source / LABEL, label)

    return spoil


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated image": (lambda s: truncate(s / IMAGE), IMAGE, "found a truncated or otherwise unreadable file"),
    "truncated label": (lambda s: truncate(s / LABEL), LABEL, "found a truncated or otherwise unreadable file"),
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
    "foreign label value": (label_with(14), LABEL, "13 left adrenal gland, found 14 (6 voxels)"),
    "label without image": (
        lambda s: add_label(s / "label" / "label0040.nii.gz"),
        "label/label0040.nii.gz",
        "expected its image img/img0040.nii.gz, found none",
    ),
    "image twice": (
        lambda s: decompress(s / IMAGE, keep=True),
        IMAGE,
        "expected each case once, found the same number in img0002.nii; remove one of the two",
    ),
    "label twice": (
        lambda s: decompress(s / LABEL, keep=True),
        LABEL,
        "expected each case once, found the same number in label0002.nii; remove one of the two",
    ),
    "MR among CT": (
        lambda s: add_image(s / IMAGE, MR),
        IMAGE,
        "expected CT in Hounsfield units, found no value below -50 (0 to 1200); export it with its rescale intercept",
    ),
    "no images": (
        lambda s: [path.unlink() for path in (*s.glob("img/*"), *s.glob("label/*"))],
        "img",
        "expected images imgNNNN.nii.gz, found none",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line_with_file_expected_found_and_fix_and_writes_nothing(
    fault: str, source: Path, prepare: Prepare, output: Path
) -> None:
    spoil, file, message = FAULTS[fault]
    spoil(source)
    assert_fault(prepare(source), source / file, message, output)


def test_ct_that_is_clipped_to_a_soft_tissue_window_is_still_ct(source: Path, prepare: Prepare) -> None:
    add_image(source / IMAGE, (-125, 275))
    assert prepare(source)[0] == 0


def test_all_faults_are_reported_at_once(source: Path, prepare: Prepare, output: Path) -> None:
    add_image(source / IMAGE, MR)
    label_with(14)(source)
    truncate(source / "img" / "img0001.nii.gz")
    code, error = prepare(source)
    assert code == 2
    first, *lines = error.splitlines()
    assert first == f"error: 3 problems in {source}; nothing was written:"
    assert [line.split(": expected ")[0].strip() for line in lines] == [
        str(source / name) for name in ("img/img0001.nii.gz", IMAGE, LABEL)
    ]
    assert not output.exists()


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("missing", "no such folder"),
        ("file.txt", "a file"),
        ("empty", "an empty folder"),
        ("other", "a, b, c, d, e and 1 more"),
    ],
)
def test_wrong_folder_is_named_with_what_it_holds(
    folder: str, found: str, prepare: Prepare, tmp_path: Path, output: Path
) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for name in "abcdef":
        (tmp_path / "other" / name).mkdir(parents=True)
    message = f"found {found}; pass the folder of the unpacked download (the one with RawData/) as --source"
    assert_fault(prepare(tmp_path / folder), tmp_path / folder, message, output)
