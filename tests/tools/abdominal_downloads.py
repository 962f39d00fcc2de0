"""Made-up downloads in the layouts of Synapse and AMOS."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.tools.acdc_download import AFFINE, SHAPE, save

Prepare = Callable[..., tuple[int, str]]

CT, MR = (-1000, 400), (0, 1200)  # ranges of intensities
AMOS_CASES = {"Tr": ("0001", "0004", "0507"), "Va": ("0008", "0544"), "Ts": ("0002",)}
# As the official dataset.json spells them.
AMOS_LABELS = [
    *("background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver", "stomach"),
    *("arota", "postcava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder"),
    "prostate/uterus",
]


def cases(output: Path) -> dict[str, dict[str, Any]]:
    """The records of a datalist by their ids."""
    return {case["id"]: case for case in json.loads((output / "datalist.json").read_text())["cases"]}


def add_image(path: Path, intensities: tuple[int, int]) -> None:
    """An image whose values fill the range, half of them below its middle; each name has another."""
    values = np.linspace(*intensities, int(np.prod(SHAPE))).astype(np.int16)
    values[1] += zlib.crc32(path.name.encode()) % 100
    save(path, values.reshape(SHAPE))


def add_label(path: Path) -> None:
    """A label with 12 voxels of class 1, 6 of class 2 and 2 of class 13."""
    label = np.zeros(SHAPE, np.uint8)
    label[:2, :2, :] = 1
    label[3, :2, :] = 2
    label[5, :2, 0] = 13
    save(path, label)


def make_synapse(folder: Path, numbers: tuple[str, ...] = ("0001", "0002", "0026")) -> Path:
    """img/ and label/ in a folder, which is returned."""
    for number in numbers:
        add_image(folder / "img" / f"img{number}.nii.gz", CT)
        add_label(folder / "label" / f"label{number}.nii.gz")
    return folder


def make_amos(folder: Path) -> Path:
    """Five labelled cases, two of them MR, one without a label, and dataset.json, in a folder, which is returned."""
    for part, numbers in AMOS_CASES.items():
        for number in numbers:
            add_image(folder / f"images{part}" / f"amos_{number}.nii.gz", CT if int(number) <= 500 else MR)
            if part != "Ts":
                add_label(folder / f"labels{part}" / f"amos_{number}.nii.gz")
    describe_amos(folder)
    return folder


def describe_amos(folder: Path, **changes: Any) -> None:
    """Write dataset.json as the official one is, with some keys changed; those that become None are left out."""
    listed = {part: [f"amos_{number}.nii.gz" for number in numbers] for part, numbers in AMOS_CASES.items()}
    content = {
        "name": "AMOS",
        "modality": {"0": "CT"},
        "labels": {str(key): name for key, name in enumerate(AMOS_LABELS)},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in listed["Tr"]],
        "validation": [{"image": f"./imagesVa/{name}", "label": f"./labelsVa/{name}"} for name in listed["Va"]],
        "test": [f"./imagesTs/{name}" for name in listed["Ts"]],
    }
    content = {key: value for key, value in (content | changes).items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))


def truncate(path: Path) -> None:
    """Cut off the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def decompress(path: Path, keep: bool = False) -> None:
    """Put NAME.nii in the place of NAME.nii.gz, or beside it."""
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    if not keep:
        path.unlink()


def shift(path: Path) -> None:
    """Move a label by 2.5 mm, in its header alone."""
    affine = AFFINE.copy()
    affine[0, 3] = 2.5
    save(path, np.ones(SHAPE, np.uint8), affine)


def assert_fault(result: tuple[int, str], file: Path, message: str, output: Path) -> None:
    """One line about the file, with what to do, exit code 2, and nothing written."""
    code, error = result
    assert code == 2
    assert error.count("\n") == 1, error
    assert error.startswith(f"error: {file}: expected "), error
    assert message in error
    assert error.endswith("; nothing was written\n")
    assert error.count("; ") >= 2  # between them stands what to do
    assert not output.exists()
