"""The datalist's records of cases of several channels, a file each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.files import write_json
from scripts.validation import problems
from tests.tools.acdc_download import AFFINE, SHAPE, save
from tools.__main__ import main
from tools.common.case_files import CaseFiles, build_cases, datalist
from tools.common.findings import Findings
from tools.new.sources import Case

LABELS = {0: "background", 1: "heart"}


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    """A case of three channels with a label."""
    for number, name in enumerate(("t1", "t2", "flair")):
        save(tmp_path / f"{name}.nii.gz", np.arange(360).reshape(SHAPE).astype(np.int16) + number)
    save(tmp_path / "label.nii.gz", (np.arange(360).reshape(SHAPE) > 340).astype(np.uint8))
    images = tuple(tmp_path / f"{name}.nii.gz" for name in ("t1", "t2", "flair"))
    return Case("a", "p", images, tmp_path / "label.nii.gz").files("MR")


def written(files: CaseFiles, root: Path) -> tuple[dict[str, Any], list[str]]:
    findings = Findings()
    return datalist("x", "MR", LABELS, build_cases([files], LABELS, root, findings)), findings.lines


def test_record_lists_a_path_and_a_hash_per_channel(files: CaseFiles, tmp_path: Path) -> None:
    content, lines = written(files, tmp_path)
    assert lines == []
    (case,) = content["cases"]
    assert case["image"] == ["t1.nii.gz", "t2.nii.gz", "flair.nii.gz"]
    hashes = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in case["image"]]
    assert case["sha256"]["image"] == hashes
    assert (case["shape"], case["voxels"], case["modality"]) == ([12, 10, 3], {"1": 19}, "MR")
    assert problems(content, "datalist") == []


def test_record_of_one_channel_has_a_path_and_no_list(tmp_path: Path, files: CaseFiles) -> None:
    content, _ = written(Case("a", "p", (files.image,)).files(), tmp_path)
    assert content["cases"][0]["image"] == "t1.nii.gz"
    assert problems(content, "datalist") == []
    content["cases"][0]["image"] = ["t1.nii.gz"]
    (problem,) = problems(content, "datalist")
    assert str(problem).startswith("cases[0].image: expected a path, or a list of two paths or more, one per channel")


def shift(path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 2.5
    save(path, np.arange(360).reshape(SHAPE).astype(np.int16), affine)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shift, "expected the first channel's affine, found one that moves a corner by 2.5 mm; resample the channel"),
        (
            lambda path: save(path, np.arange(480).reshape(12, 10, 4).astype(np.int16)),
            "expected the first channel's shape 12 x 10 x 3, found 12 x 10 x 4; export image and channel on the same",
        ),
        (lambda path: save(path, np.full(SHAPE, 7, np.int16)), "expected grey values that differ, found 7 in every"),
        (lambda path: save(path, np.full(SHAPE, np.nan, np.float32)), "expected finite intensities, found 360 voxels"),
        (lambda path: save(path, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])), "the voxel type"),
        (lambda path: path.unlink(), "found no such file"),
        (
            lambda path: save(path, np.where(np.arange(360).reshape(SHAPE) > 99, -1000, 5).astype(np.int16)),
            "expected MR, found 72% of the voxels below -50",
        ),
    ],
    ids=["affine", "shape", "constant", "nan", "rgb", "missing", "ct"],
)
def test_fault_of_any_channel_is_told_and_gives_no_record(
    spoil: Any, message: str, files: CaseFiles, tmp_path: Path
) -> None:
    spoil(tmp_path / "flair.nii.gz")
    content, (line,) = written(files, tmp_path)
    assert content["cases"] == []
    assert line.startswith(f"{tmp_path / 'flair.nii.gz'}: ")
    assert message in line


def test_the_doctor_reads_every_channel(files: CaseFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "datalist.json", written(files, tmp_path)[0])
    doctor = ["doctor", "--dataset", str(tmp_path), "--output", str(tmp_path / "out")]
    main(doctor)
    assert " 0 errors" in capsys.readouterr().out
    shift(tmp_path / "flair.nii.gz")
    assert main(doctor) == 2
    found = capsys.readouterr().out
    assert "flair.nii.gz: expected the first channel's affine" in found
    assert "changed file" in found
    assert found.count("flair.nii.gz") > 1


def test_channels_of_one_file_are_refused(tmp_path: Path) -> None:
    nib.Nifti1Image(np.zeros((4, 3, 2, 2), np.int16), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    _, (line,) = written(Case("a", "p", (tmp_path / "a.nii.gz",)).files(), tmp_path)
    assert "expected a 3D NIfTI volume, found 4D (4 x 3 x 2 x 2)" in line
