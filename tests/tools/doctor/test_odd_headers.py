"""Files that prepare and training take, and that the doctor cannot compute with as they are."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tools.doctor.examine import examine


@pytest.mark.parametrize("fields", [{"pixdim": [1, 1e-12, 1e-12, 1e-12, 1, 1, 1, 1]}, {"quatern_b": 300}])
def test_a_volume_of_nothing_and_a_qform_that_does_not_rotate_are_measured(
    fields: dict[str, object], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 2, (6, 5, 4)).astype(np.uint8)
    for name in ("image", "label"):
        image = nib.Nifti1Image(values, np.eye(4))
        image.header["qform_code"] = 1
        content = bytearray(image.to_bytes())
        header = image.header.copy()
        for field, value in fields.items():
            header[field] = value
        content[:348] = header.binaryblock
        (tmp_path / f"{name}.nii").write_bytes(content)
    case = {"id": "a", "patient": "a", "image": "image.nii", "label": "label.nii"}
    (tmp_path / "datalist.json").write_text(json.dumps({"cases": [case], "labels": {"1": "x"}}))
    _, fingerprint = examine(tmp_path / "datalist.json", None, None, 1, lambda: None)
    assert fingerprint["classes"]["x"]["cases"] == 1


def test_a_single_slice_that_is_stored_backwards_is_measured(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4, 1)  # float32: nothing else copies them
    nib.Nifti1Image(values, np.diag([1.0, 1.0, -1.0, 1.0])).to_filename(tmp_path / "image.nii")
    case = {"id": "a", "patient": "a", "image": "image.nii"}
    (tmp_path / "datalist.json").write_text(json.dumps({"cases": [case]}))
    _, fingerprint = examine(tmp_path / "datalist.json", None, None, 1, lambda: None)
    assert fingerprint["orientations"] == {"RAI": 1}
