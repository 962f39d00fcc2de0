"""MONAI Label's real server with a model of two channels; run by `make label-test`."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.bundle_commands import INFER, STEPS_3D, SYNAPSE, TINY_3D, TRAIN, places
from tests.bundle_runner import BundleRunner
from tests.label_server import LabelServer, tiny_bundle
from tools.phantom.command import make_phantom

pytestmark = pytest.mark.label_server


def test_studies_of_one_file_are_inferred_on_and_others_refused(runner: BundleRunner, tmp_path: Path) -> None:
    data, run, studies = (tmp_path / name for name in ("data", "run", "studies"))
    make_phantom("abdomen", data, 2, 1, validation=1, test=1, size=(56, 56, 40), channels=2)
    runner.run([*TRAIN, *places(data, run), *TINY_3D, *STEPS_3D, "--in_channels", "2"], SYNAPSE).check()
    first, second = (nib.nifti1.load(path) for path in sorted((data / "images").iterdir())[-2:])
    studies.mkdir()
    values = np.stack([np.asarray(image.dataobj) for image in (first, second)], axis=-1)
    nib.Nifti1Image(values, first.affine).to_filename(studies / "both.nii.gz")
    first.to_filename(studies / "single.nii.gz")
    bundle = tiny_bundle(tmp_path / "dca_synapse")
    with LabelServer(bundle, studies, tmp_path / "work", "--model", str(run / "models" / "model.pt")) as server:
        found = server.infer("both", tmp_path)
        answer = server.form("POST", "/infer/dca_synapse?image=single&output=image", {"params": "{}"})
    assert answer.status == 422
    assert b"single.nii.gz: expected an image of 3 axes and 2 channels, in one NIfTI file, found shape" in answer.body
    own = ["--dataset_dir", str(studies / "both.nii.gz"), "--output_dir", str(tmp_path / "own")]
    runner.run([*INFER, *own], tmp_path / "work" / "model" / "dca_synapse").check()
    np.testing.assert_array_equal(found, np.asarray(nib.nifti1.load(tmp_path / "own" / "both_seg.nii.gz").dataobj))
