"""Damaged NIfTI files: each reader takes a volume that can be used or refuses it in a line, and all readers agree."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged

from scripts.data.transforms import LoadCased
from scripts.errors import UserError
from scripts.inference.images import ImageDataset
from tests.fuzz.fuzzing import INPUTS, WrongError, fuzz, refusal
from tools.common.case_files import CaseFiles, read_case
from tools.common.findings import Findings
from tools.doctor.examine import examine
from tools.doctor.findings import ERROR

AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])
NUMBERS = [0, 1, 2, 3, 7, -1, -32768, 32767, 2**31 - 1, -(2**31), 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-20, 1e20, 3e38, -3e38, 1e300, np.nan, np.inf, -np.inf, 348.0, 352.0, 353.5]
# A meant difference: MONAI's reader takes the qform in the place of an sform that contradicts pixdim.
STRICTER = ("moves a corner by",)
LOAD = Compose([LoadImaged("image", ensure_channel_first=True)])
LOAD_CASED = LoadCased(num_classes=1)
Random = np.random.Generator


@cache
def sound(label: bool, kind: type, dtype: str) -> tuple[bytes, Any]:
    """A small volume as bytes, and its header."""
    values = np.random.default_rng(0).integers(0, 2 if label else 100, (6, 5, 4))
    image = kind(values.astype(dtype), AFFINE)
    return image.to_bytes(), image.header


@cache
def bomb() -> bytes:
    """400 MB of zeros."""
    return gzip.compress(bytes(400 << 20), 1)


def damaged(draw: Random, label: bool) -> bytes:
    """The bytes of a volume, compressed, with one to three things wrong with it."""
    kind = [nib.Nifti1Image, nib.Nifti1Image, nib.Nifti2Image][draw.integers(3)]
    dtype = ["uint8", "int16", "float32", "float64"][draw.integers(4)]
    content, header = sound(label, kind, dtype)
    raw = bytearray(content)
    ways: list[Callable[[bytearray, Any, Random], bytearray]] = [change_field] * 6 + [flip, extension, cut, swap]
    for _ in range(draw.integers(1, 4)):
        raw = ways[draw.integers(len(ways))](raw, header, draw)
    packed = bytearray(gzip.compress(bytes(raw), 1, mtime=0))
    end = draw.integers(40)
    if end < 3:
        packed = flip(packed, header, draw)
    elif end < 5:
        packed = packed[: draw.integers(len(packed))]
    elif end == 5:
        packed += draw.bytes(draw.integers(1, 50))
    elif end == 6:
        packed = bytearray(draw.bytes(draw.integers(500)))
    elif end == 7 and draw.integers(3) == 0:
        packed = bytearray(gzip.compress(content, 1) + bomb())
    return bytes(packed)


def change_field(raw: bytearray, header: Any, draw: Random) -> bytearray:
    """Another value in a part of a field of the header."""
    names = list(header.template_dtype.names)
    likely = ["dim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "qform_code", "sform_code"]
    likely += ["srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "sizeof_hdr", "magic"]
    name = (likely if draw.integers(5) else names)[draw.integers(len(likely))]
    field, offset = header.template_dtype.fields[name][:2]
    base = field.base.newbyteorder("<") if field.base.kind != "S" else field.base
    place = offset + base.itemsize * int(draw.integers(max(1, int(np.prod(field.shape)))))
    if base.kind == "S" or draw.integers(6) == 0:
        new = draw.bytes(base.itemsize)
    elif base.kind == "f":
        with np.errstate(over="ignore"):
            new = np.array(FLOATS[draw.integers(len(FLOATS))]).astype(base).tobytes()
    else:
        small = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304]
        choice = (small if draw.integers(2) else NUMBERS)[draw.integers(11)]
        new = np.array(choice, np.int64).astype(base).tobytes()
    raw[place : place + base.itemsize] = new
    return raw


def flip(raw: bytearray, header: Any, draw: Random) -> bytearray:
    """Other bytes, in the header more often than behind it."""
    for _ in range(draw.integers(1, 9)):
        reach = min(len(raw), 352) if draw.integers(4) else len(raw)
        if reach:
            raw[draw.integers(reach)] = draw.integers(256)
    return raw


def extension(raw: bytearray, header: Any, draw: Random) -> bytearray:
    """A header extension that says how long it is."""
    end = int(header["sizeof_hdr"])
    size = [8, 16, 0, 7, -16, 2**31 - 16, 1 << 28][draw.integers(7)]
    block = np.array([size, draw.integers(50)], np.int32).tobytes() + draw.bytes(8)
    raw[end : end + 4] = bytes([1, 0, 0, 0])
    raw[end + 4 : end + 4] = block
    return raw


def cut(raw: bytearray, header: Any, draw: Random) -> bytearray:
    """Fewer bytes, or more."""
    return raw[: draw.integers(len(raw) + 1)] if draw.integers(2) else raw + draw.bytes(draw.integers(1, 200))


def swap(raw: bytearray, header: Any, draw: Random) -> bytearray:
    """The other endianness, in the header."""
    size = int(header["sizeof_hdr"])
    if len(raw) >= size:
        raw[:size] = np.frombuffer(bytes(raw[:size]), header.template_dtype).byteswap().tobytes()
    return raw


def prepare(files: dict[str, Path]) -> None:
    findings = Findings()
    image, label = read_case(CaseFiles("a", "a", files["image"], files.get("label")), {0: "b", 1: "x"}, findings)
    if findings.lines:
        raise UserError(findings.lines[0])
    for volume in [image, label][: len(files)]:
        if volume is None or not np.isfinite(volume.values).all() or abs(np.linalg.det(volume.affine)) == 0:
            raise WrongError("a volume that cannot be used was taken")


def train(files: dict[str, Path]) -> None:
    item = LOAD_CASED({key: str(path) for key, path in files.items()})
    for key in files:
        if not item[key].isfinite().all() or abs(np.linalg.det(item[key].affine.numpy())) == 0:
            raise WrongError(f"{key} cannot be used and was taken")


def infer(files: dict[str, Path]) -> None:
    item = ImageDataset([{"image": str(files["image"])}], LOAD)[0]
    if not item["image"].isfinite().all() or item["image"].ndim != 4:
        raise WrongError("an image that cannot be used was taken")


def doctor(files: dict[str, Path]) -> None:
    content = {"cases": [{"id": "a", "patient": "a"} | {key: path.name for key, path in files.items()}]}
    datalist = files["image"].with_name("datalist.json")
    datalist.write_text(json.dumps(content | {"labels": {"0": "background", "1": "x"}}))
    findings, _ = examine(datalist, None, None, 1, lambda: None)
    lines = [f"{one.file}: {one.found}" for one in findings if one.severity == ERROR and one.kind in ("image", "label")]
    if lines:
        raise UserError(lines[0])


@pytest.mark.filterwarnings("ignore")  # nibabel's and numpy's, of what the header says
@INPUTS
def test_every_reader_takes_or_refuses_a_damaged_volume_and_all_agree(inputs: int, tmp_path: Path) -> None:
    def attempt(draw: Random) -> str:
        label = draw.integers(4) == 0
        files = {"image": tmp_path / "a.nii.gz"} | ({"label": tmp_path / "b.nii.gz"} if label else {})
        files["image"].write_bytes(gzip.compress(sound(False, nib.Nifti1Image, "uint8")[0], 1))
        files["label" if label else "image"].write_bytes(damaged(draw, label))
        readers = (prepare, doctor, train) if label else (prepare, doctor, train, infer)
        told = {read.__name__: refusal(partial(read, files)) for read in readers}
        if len({line is None for line in told.values()}) == 1:
            return "refused" if told["train"] else "taken"
        if any(line and words in line for line in told.values() for words in STRICTER):
            return "refused by the stricter ones"
        raise WrongError(
            f"some take what others refuse: { ({name: line and line[-160:] for name, line in told.items()}) }"
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz(inputs, attempt)
