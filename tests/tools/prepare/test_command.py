"""`prepare acdc`: the official layout in all its variants."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalists import load_split
from tests.tools.acdc_download import AFFINE, add_patient, noted, save


def cases(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {case["id"]: case for case in json.loads((tmp_path / "out" / "datalist.json").read_text())["cases"]}


def phases(tmp_path: Path) -> dict[str, str]:
    return {name: case["phase"] for name, case in cases(tmp_path).items()}


def test_records_hold_what_the_files_hold(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, printed = prepare(source)
    assert code == 0
    assert "3 patients, 6 cases, 6 of them labelled" in printed
    content = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert content["name"] == "ACDC"
    assert content["modality"] == "MR"
    assert content["labels"] == {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"}
    image, label = (source / "patient001" / f"patient001_frame01{part}.nii.gz" for part in ("", "_gt"))
    assert content["cases"][0] == {
        "id": "patient001_frame01",
        "patient": "patient001",
        "phase": "ED",
        **noted(image, label),
        "voxels": {"1": 6, "2": 64 - 24, "3": 24},
    }


def test_files_inside_the_output_folder_are_noted_relative_to_it(
    prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    add_patient(tmp_path / "out" / "raw", "patient001")
    assert prepare(tmp_path / "out" / "raw")[0] == 0
    record = cases(tmp_path)["patient001_frame01"]
    assert record["image"] == "raw/patient001/patient001_frame01.nii.gz"
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["patient001"], "validation": []}))
    roles = load_split(tmp_path / "out" / "datalist.json", split, 100)
    assert all(Path(item["label"]).is_file() for item in roles["labelled"])


@pytest.mark.parametrize("parts", [("training", "testing"), ("database/training", "database/testing")])
def test_training_and_testing_folders_are_both_read(
    parts: tuple[str, str], prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    source = tmp_path / "download"
    add_patient(source / parts[0], "patient001")
    add_patient(source / parts[1], "patient101")
    assert prepare(source)[0] == 0
    assert {case["patient"] for case in cases(tmp_path).values()} == {"patient001", "patient101"}


def test_everything_else_in_a_download_is_passed_over(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    save(source / "patient001" / "patient001_4d.nii.gz", np.zeros((4, 4, 3, 5), np.int16))
    (source / "patient001" / "._patient001_frame01.nii.gz").write_bytes(b"resource fork")
    (source / "patient001" / "MANDATORY_CITATION.md").write_text("cite")
    (source / "patients.txt").write_text("a list")
    assert prepare(source)[0] == 0
    assert len(cases(tmp_path)) == 6


def test_uncompressed_files_are_read(prepare: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    add_patient(tmp_path / "acdc", "patient001")
    for path in sorted((tmp_path / "acdc" / "patient001").iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert prepare(tmp_path / "acdc")[0] == 0
    assert cases(tmp_path)["patient001_frame12"]["label"].endswith("patient001_frame12_gt.nii")


def test_spacing_is_the_header_s_where_the_sform_has_lost_it(
    prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """The official files hold an sform of unit scale beside the right pixdim."""
    add_patient(tmp_path / "acdc", "patient001")
    for path in (tmp_path / "acdc" / "patient001").iterdir():
        image = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), None)
        image.header.set_zooms((1.5, 1.5, 10.0))
        image.header.set_qform(AFFINE, code=1)
        image.header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=1)
        path.write_bytes(gzip.compress(image.to_bytes()))
    assert prepare(tmp_path / "acdc")[0] == 0
    assert cases(tmp_path)["patient001_frame01"]["spacing"] == [1.5, 1.5, 10.0]


def test_phases_follow_the_order_of_frames_whatever_their_numbers(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert prepare(source)[0] == 0
    assert phases(tmp_path) == {
        "patient001_frame01": "ED",
        "patient001_frame12": "ES",
        "patient002_frame01": "ED",
        "patient002_frame09": "ES",
        "patient090_frame04": "ED",
        "patient090_frame11": "ES",
    }


def test_info_cfg_names_the_phases(source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    shutil.rmtree(source / "patient002")
    add_patient(source, "patient002", (1, 9), ventricle=(3, 6))
    (source / "patient002" / "Info.cfg").write_text("ED: 9\nES: 1\nGroup: DCM\nHeight: 170.0\nNbFrame: 30\n")
    code, printed = prepare(source)
    assert code == 0
    assert "note" not in printed
    assert phases(tmp_path)["patient002_frame01"] == "ES"
    assert phases(tmp_path)["patient002_frame09"] == "ED"


def test_info_cfg_names_the_phases_of_an_unlabelled_patient(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    for label in (source / "patient002").glob("*_gt.nii.gz"):
        label.unlink()
    (source / "patient002" / "Info.cfg").write_text("ED: 9\nES: 1\n")
    assert prepare(source, "--allow-unlabelled")[0] == 0
    assert phases(tmp_path)["patient002_frame09"] == "ED"


def test_labels_decide_where_info_cfg_contradicts_them(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (source / "patient090" / "Info.cfg").write_text("ED: 11\nES: 4\n")
    code, printed = prepare(source)
    assert code == 0
    assert "note: patient090_frame04 is taken as end-diastole" in printed
    assert phases(tmp_path)["patient090_frame04"] == "ED"
    assert phases(tmp_path)["patient090_frame11"] == "ES"


def test_unlabelled_patients_are_accepted_on_request_only(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    for label in (source / "patient002").glob("*_gt.nii.gz"):
        label.unlink()
    code, error = prepare(source)
    assert code == 2
    assert error.count("--allow-unlabelled") == 2
    assert not (tmp_path / "out").exists()
    code, printed = prepare(source, "--allow-unlabelled")
    assert code == 0
    assert "6 cases, 4 of them labelled" in printed
    record = cases(tmp_path)["patient002_frame01"]
    assert record.keys() & {"label", "voxels"} == set()
    assert record["sha256"].keys() == {"image"}
