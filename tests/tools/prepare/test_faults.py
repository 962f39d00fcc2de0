"""`prepare acdc`: every fault that a download or an export can have is told, and nothing is written."""

from __future__ import annotations

import errno
import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.tools.acdc_download import AFFINE, SHAPE, save

FRAME = "patient001/patient001_frame01.nii.gz"
LABEL = "patient001/patient001_frame01_gt.nii.gz"


def truncate(source: Path) -> None:
    data = (source / FRAME).read_bytes()
    (source / FRAME).write_bytes(data[: len(data) // 2])


def truncate_uncompressed(source: Path) -> None:
    data = gzip.decompress((source / FRAME).read_bytes())
    (source / FRAME).with_suffix("").write_bytes(data[:-20])
    (source / FRAME).unlink()


def flip_a_bit(source: Path) -> None:
    data = bytearray((source / FRAME).read_bytes())
    data[-6] ^= 1  # in the checksum: everything decompresses, and only the check at the end tells
    (source / FRAME).write_bytes(data)


def add_nan(source: Path) -> None:
    values = np.ones(SHAPE, np.float32)
    values[0, 0, 0], values[1, 0, 0] = np.nan, np.inf
    save(source / FRAME, values)


def colour(source: Path) -> None:
    save(source / FRAME, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]))


def label_seven(source: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[:2, :3, 0] = 7
    save(source / LABEL, label)


def shifted_label(source: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 2.5
    save(source / LABEL, np.ones(SHAPE, np.uint8), affine)


def singular_affine(source: Path) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    image.header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    (source / FRAME).write_bytes(gzip.compress(image.to_bytes()))


def foreign_file(source: Path) -> None:
    save(source / "patient001" / "patient002_frame20.nii.gz", np.zeros(SHAPE, np.int16))


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated": (truncate, FRAME, "found a truncated or otherwise unreadable file"),
    "truncated, not compressed": (truncate_uncompressed, FRAME[:-3], "found a truncated or otherwise unreadable file"),
    "wrong checksum": (flip_a_bit, FRAME, "CRC check failed"),
    "empty file": (lambda s: (s / FRAME).write_bytes(b""), FRAME, "found content that is not NIfTI"),
    "text": (lambda s: (s / LABEL).write_text("<html>"), LABEL, "found content that is not NIfTI"),
    "broken link": (
        lambda s: ((s / FRAME).unlink(), (s / FRAME).symlink_to("annex")),
        FRAME,
        "found no such file",
    ),
    "NaN and Inf": (add_nan, FRAME, "expected finite intensities, found 2 voxels of NaN or Inf"),
    "NaN in a label": (
        lambda s: save(s / LABEL, np.full(SHAPE, np.nan, np.float32)),
        LABEL,
        "found nan (360 voxels)",
    ),
    "colour": (colour, FRAME, "expected one number per voxel"),
    "2D image": (lambda s: save(s / FRAME, np.zeros((8, 9), np.int16)), FRAME, "found 2D (8 x 9)"),
    "4D image": (lambda s: save(s / FRAME, np.zeros((4, 4, 3, 5), np.int16)), FRAME, "found 4D (4 x 4 x 3 x 5)"),
    "singular affine": (singular_affine, FRAME, "expected a finite, invertible affine"),
    "label value 7": (label_seven, LABEL, "2 myocardium, 3 left ventricle, found 7 (6 voxels)"),
    "probabilities": (lambda s: save(s / LABEL, np.full(SHAPE, 0.25)), LABEL, "found 0.25 (360 voxels)"),
    "other shape": (
        lambda s: save(s / LABEL, np.ones((12, 10, 4), np.uint8)),
        LABEL,
        "expected its image's shape 12 x 10 x 3, found 12 x 10 x 4",
    ),
    "other affine": (shifted_label, LABEL, "expected its image's affine, found one that moves a corner by 2.5 mm"),
    "missing label": (lambda s: (s / LABEL).unlink(), LABEL, "expected the label of this frame, found no such file"),
    "label without image": (
        lambda s: shutil.copy(s / LABEL, s / "patient001" / "patient001_frame05_gt.nii.gz"),
        "patient001/patient001_frame05_gt.nii.gz",
        "expected an image of the same frame beside it, found none",
    ),
    "one frame": (
        lambda s: [path.unlink() for path in (s / "patient001").glob("*frame12*")],
        "patient001",
        "expected two frames, patientNNN_frameFF.nii.gz, found 1 (patient001_frame01.nii.gz)",
    ),
    "three frames": (
        lambda s: shutil.copy(s / FRAME, s / "patient001" / "patient001_frame05.nii.gz"),
        "patient001",
        "patientNNN_frameFF.nii.gz, found 3 (patient001_frame01.nii.gz, patient001_frame05.nii.gz",
    ),
    "empty patient folder": (
        lambda s: (s / "patient003").mkdir(),
        "patient003",
        "expected two frames, patientNNN_frameFF.nii.gz, found none",
    ),
    "frame of another patient": (
        foreign_file,
        "patient001/patient002_frame20.nii.gz",
        "expected frames of patient001, found a file of patient002",
    ),
    "frame twice": (
        lambda s: (s / "patient001" / "patient001_frame1.nii.gz").write_bytes((s / FRAME).read_bytes()),
        "patient001/patient001_frame1.nii.gz",
        "expected one file per frame, found the same frame in patient001_frame01.nii.gz",
    ),
    "Info.cfg of other frames": (
        lambda s: (s / "patient001" / "Info.cfg").write_text("ED: 1\nES: 10\n"),
        "patient001/Info.cfg",
        "expected ED and ES to be the frames 1 and 12, found ED: 1, ES: 10",
    ),
    "Info.cfg without phases": (
        lambda s: (s / "patient001" / "Info.cfg").write_bytes(b"\xff\x00"),
        "patient001/Info.cfg",
        "found neither ED nor ES",
    ),
    "patient twice": (
        lambda s: shutil.copytree(s / "patient001", s / "training" / "patient001"),
        "training/patient001",
        "expected each patient once",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line_with_file_expected_found_and_fix_and_writes_nothing(
    fault: str, source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    spoil, file, message = FAULTS[fault]
    spoil(source)
    code, error = prepare(source)
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith(f"error: {source / file}: expected ")
    assert message in error
    assert error.endswith("; nothing was written\n")
    assert error.count("; ") >= 2  # between them stands what to do
    assert not (tmp_path / "out").exists()


def test_one_lost_label_is_a_fault_even_where_unlabelled_patients_are_welcome(
    source: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    (source / LABEL).unlink()
    code, error = prepare(source, "--allow-unlabelled")
    assert code == 2
    assert "expected the label of this frame, found no such file; download the patient again;" in error


def test_all_faults_are_reported_at_once_and_the_old_datalist_stays(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert prepare(source)[0] == 0
    before = (tmp_path / "out" / "datalist.json").read_bytes()
    truncate(source)
    label_seven(source)
    (source / "patient002" / "patient002_frame09_gt.nii.gz").unlink()
    save(source / "patient090" / "patient090_frame11.nii.gz", np.zeros((8, 9), np.int16))
    code, error = prepare(source)
    assert code == 2
    first, *lines = error.splitlines()
    assert first == f"error: 4 problems in {source}; nothing was written:"
    names = ("patient001_frame01", "patient001_frame01_gt", "patient002_frame09_gt", "patient090_frame11")
    assert [line.split(": expected ")[0].strip() for line in lines] == [
        str(source / name[:10] / f"{name}.nii.gz") for name in names
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["datalist.json"]
    assert (tmp_path / "out" / "datalist.json").read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("missing", "found no such folder; pass the folder of the unpacked download as --source"),
        ("file.txt", "found a file; pass the folder of the unpacked download as --source"),
        ("empty", "found an empty folder; pass the folder of the unpacked ACDC download"),
        ("other", "found img, label; pass the folder of the unpacked ACDC download"),
    ],
)
def test_wrong_folder_is_named_with_what_it_holds(
    folder: str, message: str, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for name in ("img", "label"):
        (tmp_path / "other" / name).mkdir(parents=True)
    code, error = prepare(tmp_path / folder)
    assert code == 2
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_single_patient_s_folder_is_answered_with_the_folder_above(
    source: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    code, error = prepare(source / "patient001")
    assert code == 2
    assert f"pass the folder above it, {source}" in error


def test_output_that_is_a_file_is_a_user_error(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    code, error = prepare(source)
    assert code == 2
    assert "expected a folder, found a file" in error
    assert (tmp_path / "out").read_text() == "mine"


def test_an_interrupted_write_leaves_the_old_datalist(
    source: Path, prepare: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(source)[0] == 0
    before = (tmp_path / "out" / "datalist.json").read_bytes()
    shutil.rmtree(source / "patient002")

    def full(path: Path, text: str, encoding: str) -> int:
        with path.open("w", encoding=encoding) as file:
            file.write(text[:50])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    code, error = prepare(source)
    assert code == 2
    assert "no space left on the disk" in error
    assert (tmp_path / "out" / "datalist.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["datalist.json"]
