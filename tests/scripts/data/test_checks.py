"""Whatever reads an image takes and refuses the same files: `prepare`, training and inference, told in one line."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.data.transforms import LoadCased
from scripts.errors import UserError
from scripts.inference.images import ImageDataset, find_images
from tools.common.case_files import CaseFiles, read_case
from tools.common.findings import Findings

VALUES = np.random.default_rng(0).integers(-900, 900, (8, 7, 6)).astype(np.int16)
AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])
Make = Callable[[Path], None]


def volume(values: np.ndarray = VALUES, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image) -> Make:
    return lambda path: kind(values, affine).to_filename(path)


def header(**fields: object) -> Make:
    """A volume with other values in its header; a singular affine that nibabel would not write, for example."""

    def make(path: Path) -> None:
        image = nib.Nifti1Image(VALUES, AFFINE)
        content = bytearray(image.to_bytes())
        changed = image.header.copy()
        for field, value in fields.items():
            changed[field] = value
        content[:348] = changed.binaryblock
        path.write_bytes(gzip.compress(bytes(content)))

    return make


def claims(*dim: int) -> Make:
    """A small file whose header says that it is large."""
    return header(dim=[3, *dim, 1, 1, 1, 1])


def packed(after: bytes = b"", checksum: bytes | None = None) -> Make:
    """A volume with more gzip data behind it, or with another checksum."""
    data = gzip.compress(nib.Nifti1Image(VALUES, AFFINE).to_bytes())
    return lambda path: path.write_bytes((data if checksum is None else data[:-8] + checksum + data[-4:]) + after)


SOUND: dict[str, Make] = {
    "NIfTI-1": volume(),
    "NIfTI-2": volume(kind=nib.Nifti2Image),
    "float": volume(VALUES.astype(np.float32)),
    "sheared": volume(affine=AFFINE + np.array([[0, 0.5, 0, 9], [0, 0, 0.2, 9], [0, 0, 0, 9], [0, 0, 0, 0]])),
    "left-handed": volume(affine=np.diag([-1.5, 1.5, 3.0, 1.0])),
}
ODD: dict[str, tuple[Make, str]] = {
    "complex numbers": (volume(VALUES.astype(np.complex64)), "found the voxel type complex64"),
    "colours": (volume(np.zeros((8, 7, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "found the voxel type"),
    "singular affine": (header(srow_x=[0, 0, 0, 0]), "expected a finite, invertible affine"),
    "two axes of one direction": (
        header(srow_x=[1.5, 1.5, 0, 0], srow_y=[1, 1, 0, 0]),
        "expected a finite, invertible affine",
    ),
    "affine of NaN": (header(srow_z=[np.nan] * 4), "expected a finite, invertible affine"),
    "more voxels than it can hold": (claims(2000, 2000, 2000), "truncated or otherwise unreadable file (16000000000"),
    "a qform that does not rotate": (
        header(pixdim=[1, 1.5, 1.5, 5, 1, 1, 1, 1], quatern_b=2, qform_code=1),
        "expected a qform that rotates",
    ),
    "beyond float32": (volume(np.where(VALUES > 800, 1e300, VALUES)), "expected finite"),
    "one grey value in float32": (volume(VALUES * 1e-300), "expected grey values that differ"),
    "no voxel": (header(dim=[3, 8, 7, 0, 1, 1, 1, 1]), "found no voxel"),
    "four axes": (volume(np.stack([VALUES, VALUES], -1)), "found 4D (8 x 7 x 6 x 2)"),
    "two axes": (volume(VALUES[..., 0]), "found 2D (8 x 7)"),
    "all zero": (volume(VALUES * 0), "expected grey values that differ, found 0 in every voxel"),
    "NaN": (volume(np.where(VALUES > 800, np.nan, VALUES).astype(np.float32)), "expected finite"),
    "not compressed": (lambda path: path.write_bytes(nib.Nifti1Image(VALUES, AFFINE).to_bytes()), "found content that"),
    "text": (lambda path: path.write_text("no image"), "found content that is not NIfTI"),
    "empty": (lambda path: path.touch(), "expected a 3D NIfTI volume"),
    "cut off": (lambda path: path.write_bytes(gzip.compress(nib.Nifti1Image(VALUES, AFFINE).to_bytes())[:-300]), ""),
    "content of another checksum": (packed(checksum=b"none"), "otherwise unreadable file (CRC check failed"),
    "much behind the volume": (packed(gzip.compress(bytes(3 << 20))), "more follows than its header says"),
    "a pipe": (lambda path: os.mkfifo(path), "found something that is not a file"),
    "a folder": (lambda path: path.mkdir(), "found something that is not a file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "found something that is not a file"),
}


def prepare(path: Path) -> None:
    findings = Findings()
    read_case(CaseFiles("a", "a", path), {}, findings)
    if findings.lines:
        raise UserError("\n".join(findings.lines))


def train(path: Path) -> None:
    LoadCased(num_classes=3)({"image": str(path)})


def infer(path: Path) -> None:
    from monai.transforms import Compose, LoadImaged

    ImageDataset([{"image": str(path)}], Compose([LoadImaged("image", ensure_channel_first=True)]))[0]


READERS = [prepare, train, infer]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_is_taken_by_every_reader(name: str, read: Make, tmp_path: Path) -> None:
    SOUND[name](tmp_path / "a.nii.gz")
    read(tmp_path / "a.nii.gz")
    assert find_images(tmp_path) == [{"image": str(tmp_path / "a.nii.gz")}]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_refused_by_every_reader_in_one_line(name: str, read: Make, tmp_path: Path) -> None:
    make, message = ODD[name]
    make(tmp_path / "a.nii.gz")
    with pytest.raises(UserError) as told:
        read(tmp_path / "a.nii.gz")
    assert message in str(told.value)
    assert str(told.value).startswith(f"{tmp_path / 'a.nii.gz'}: expected ")
    assert "\n" not in str(told.value)


def test_gzip_under_a_name_without_gz_is_refused_by_every_reader(tmp_path: Path) -> None:
    volume()(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    for read in READERS:
        with pytest.raises(UserError, match=r"a\.nii: expected .*, found content that is not NIfTI, but compressed; "):
            read(tmp_path / "a.nii")


def test_a_label_value_that_float32_makes_whole_is_whole_for_prepare_as_for_training(tmp_path: Path) -> None:
    volume()(tmp_path / "a.nii.gz")
    volume(np.where(VALUES > 0, 1 + 1e-12, 0))(tmp_path / "b.nii.gz")
    LoadCased(num_classes=1)({"image": str(tmp_path / "a.nii.gz"), "label": str(tmp_path / "b.nii.gz")})
    findings = Findings()
    read_case(CaseFiles("a", "a", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"), {0: "b", 1: "x"}, findings)
    assert findings.lines == []


def test_what_follows_a_volume_in_its_gzip_data_is_not_unpacked_into_memory(tmp_path: Path) -> None:
    packed(gzip.compress(bytes(300 << 20), 1))(tmp_path / "a.nii.gz")
    tracemalloc.start()
    with pytest.raises(UserError, match="more follows than its header says"):
        prepare(tmp_path / "a.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_two_spacings_in_a_header_are_refused_where_the_image_is_resampled(tmp_path: Path) -> None:
    header(pixdim=[1, 1.5, 1.5, 5, 1, 1, 1, 1])(tmp_path / "a.nii.gz")
    item = {"image": str(tmp_path / "a.nii.gz")}
    LoadCased(num_classes=3)(item)
    told = r"expected one spacing in its header, found 1\.5 x 1\.5 x 5 and 1\.5 x 1\.5 x 3 mm \(pixdim and affine\)"
    with pytest.raises(UserError, match=told):
        LoadCased(num_classes=3, one_spacing=True)(item)
