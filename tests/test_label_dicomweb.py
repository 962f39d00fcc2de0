"""The server of MONAI Label on a real Orthanc: STOW, inference, DICOM SEG out and in; run by `make label-test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from tests import orthanc
from tests.bundle_commands import INFER
from tests.bundle_runner import ROOT, BundleRunner
from tests.test_label_server import ORGANS, bundle

__all__ = ["bundle"]  # a fixture

pytestmark = [pytest.mark.label_server, pytest.mark.skipif(bool(orthanc.MISSING), reason=str(orthanc.MISSING))]


@pytest.fixture(scope="module")
def story(
    bundle: Path, synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of what `dicomweb_story.py` left behind."""
    output = tmp_path_factory.mktemp("dicomweb")
    images, label = abdomen_phantom / "images", abdomen_phantom / "labels" / "abdomen001.nii.gz"
    python = ROOT / ".venv-label" / "bin" / "python"
    arguments = [images, bundle, synapse_run[0] / "models" / "model.pt", output, label]
    command = ["env", f"PYTHONPATH={ROOT}", str(python), "-m", "tests.dicomweb_story", *map(str, arguments)]
    done = orthanc.in_namespace(command, ROOT)
    assert done.returncode == 0, done.stderr[-6000:]
    return output


def found(story: Path) -> dict[str, Any]:
    return dict(json.loads((story / "found.json").read_text()))


def segments(path: Path) -> dict[str, tuple[str, str]]:
    """Code and algorithm type of each segment."""
    return {
        str(s.SegmentLabel): (str(s.SegmentedPropertyTypeCodeSequence[0].CodeValue), str(s.SegmentAlgorithmType))
        for s in pydicom.dcmread(path).SegmentSequence
    }


def test_stored_series_are_the_studies(story: Path) -> None:
    assert found(story)["datastore"]["total"] == 5
    assert found(story)["bad"] == [404, 422]


def test_viewer_gets_the_dicom_servers_studies_and_nothing_else_of_it(story: Path) -> None:
    proxied = found(story)["proxied"]
    assert (proxied["studies"], proxied["slices"]) == (5, 48)
    assert set(proxied["refused"]) <= {400, 404, 405}
    assert 400 <= proxied["junk"] < 500  # which is the DICOM server's answer


def test_inference_on_a_series_equals_the_bundles_own(story: Path, runner: BundleRunner, tmp_path: Path) -> None:
    served = story / "work" / "model" / "dca_synapse"
    image = story / "image.nii.gz"
    runner.run([*INFER, "--dataset_dir", str(image), "--output_dir", str(tmp_path)], served).check()
    expected = np.asarray(nib.nifti1.load(tmp_path / "image_seg.nii.gz").dataobj)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(np.load(story / "inferred.npy"), expected)


def test_series_are_scored_when_asked_for(story: Path) -> None:
    assert (found(story)["scored by itself"], found(story)["scoring"]) == (404, "DONE")
    assert found(story)["next"]["id"] in found(story)["ids"].values()
    assert found(story)["next"]["current"]
    assert 0 < found(story)["next"]["score"] == found(story)["next"]["disagreement"]["overall"]


def test_every_class_has_its_own_code_in_a_seg(story: Path) -> None:
    inferred, stored = segments(story / "inferred.dcm"), segments(story / "stored.dcm")
    label = np.asarray(nib.nifti1.load(story / "drawn.nii.gz").dataobj)
    assert list(stored) == [ORGANS[str(int(c))] for c in np.unique(label) if c]
    assert set(inferred) == {ORGANS[str(int(c))] for c in np.unique(np.load(story / "inferred.npy")) if c}
    sides = ("right", "left")  # of which the code of the type may be the same
    codes = {name: code for name, (code, _) in stored.items() if not name.startswith(sides)}
    assert len(set(codes.values())) == len(codes)
    assert {made for _, made in inferred.values()} == {"AUTOMATIC"}
    assert {made for _, made in stored.values()} == {"SEMIAUTOMATIC"}


def test_training_learns_of_a_label_from_its_seg_alone(story: Path) -> None:
    assert found(story)["training"]["status"] == "DONE"
    cases = found(story)["cases"]
    (labelled,) = [case for case in cases if "label" in case]
    assert labelled["id"] == found(story)["ids"]["abdomen001"]
    assert len(cases) == 5
    read, drawn = (np.asarray(nib.nifti1.load(path).dataobj) for path in (labelled["label"], story / "drawn.nii.gz"))
    np.testing.assert_array_equal(read, drawn)
