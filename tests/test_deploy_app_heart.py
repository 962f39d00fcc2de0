"""The real app of the MR bundle: cine series, and the packager of MONAI Deploy; run by `make deploy-test`."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.files import sha256
from scripts.methods import create_predictor
from tests.bundle_commands import ACDC
from tests.bundle_runner import BundleRunner
from tests.deploy_app import (
    Run,
    expected_labels,
    folder_of,
    labels_in_patient,
    package_app,
    run_app,
    segments_of,
    write_app,
)
from tests.tools.dicom_files import write_series

pytestmark = pytest.mark.deploy_app

UID = "1.2.5"


@pytest.fixture(scope="module")
def heart_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the MR bundle that names several classes, untrained; of options that model.json has to tell."""
    folder = tmp_path_factory.mktemp("heart_models")
    torch.manual_seed(7)
    options = {"expert_levels": 4, "expert_channels": "all"}
    data = {"style": "unet", "spatial_dims": 2, "in_channels": 1, "num_classes": 3, "width": 16}
    predictor = create_predictor("dca", options=options, **data)
    torch.nn.init.normal_(predictor.aggregation.out.weight)
    torch.save(predictor.state_dict(), folder / "model.pt")
    about = {"method": "dca", "preset": "demo", "network": options, "sha256": sha256(folder / "model.pt")}
    (folder / "model.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def heart_app(heart_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MR bundle's app."""
    return write_app("dca_acdc", heart_models, tmp_path_factory.mktemp("heart_app"))


@pytest.fixture(scope="module")
def cine(
    runner: BundleRunner, heart_models: Path, heart_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A cine of three phases as DICOM, and what `segment` makes of each; the app is not run yet."""
    folder = tmp_path_factory.mktemp("cine")
    ends = [nib.nifti1.load(heart_phantom / "images" / f"heart008_{phase}.nii.gz") for phase in ("ED", "ES")]
    first, last = (np.asarray(image.dataobj) for image in ends)
    volumes = [first, last, ((first.astype(np.int32) + last) // 2).astype(first.dtype)]
    write_series(folder / "in", volumes, ends[0].affine, "MR", SeriesInstanceUID=UID)
    images = {f"phase{i}": nib.Nifti1Image(volume, ends[0].affine) for i, volume in enumerate(volumes)}
    expected = expected_labels(runner, "dca_acdc", heart_models, images, folder)
    return Run(folder / "in", folder / "out", images, expected)


def assert_phase(cine: Run, output: Path, name: str, phase: int) -> None:
    """The DICOM SEG of this name is the label map of the phase, and refers to its images alone."""
    path = folder_of(output, UID) / f"{name}_segmentation.dcm"
    names = {label: entry["class"] for label, entry in segments_of(ACDC).items()}
    expected = cine.expected[f"phase{phase}"]
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(labels_in_patient(path, cine.images[f"phase{phase}"], names), expected)
    (series,) = hd.seg.segread(path).ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == expected.shape[2]
    assert f"phase {phase}" in hd.seg.segread(path).SeriesDescription


def test_end_diastole_and_end_systole_of_a_cine_are_chosen(cine: Run, heart_app: Path, tmp_path: Path) -> None:
    run_app(heart_app / "app", tmp_path, "-i", cine.source, "-o", tmp_path / "out").check()
    ventricle = segments_of(ACDC)["left ventricle"]["class"]
    sizes = [int((cine.expected[f"phase{phase}"] == ventricle).sum()) for phase in range(3)]
    assert 0 < sizes[1] < sizes[2]
    assert_phase(cine, tmp_path / "out", "ED", 0)
    assert_phase(cine, tmp_path / "out", "ES", 1)
    assert len(list((tmp_path / "out").glob("*/*.dcm"))) == 2


FAKE_DOCKER = """#!/bin/sh
echo "$@" >> calls
case "$1 $2" in
"buildx ls") echo '{"Name": "holoscan_app_builder", "Driver": "docker-container", "Nodes": []}' ;;
"buildx inspect") echo "Name: holoscan_app_builder" ;;
"image inspect") echo "[{}]" ;;
"buildx build") for context in "$@"; do :; done; cp -r "$context" context ;;
esac
"""


def test_packager_hands_docker_a_context_whose_app_runs(cine: Run, heart_app: Path, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    result = package_app(heart_app, "dca_acdc:0.1.0", tmp_path).check()
    assert "Status:     Succeeded" in result.out
    assert "--tag dca_acdc-x64-workstation-dgpu-linux-amd64:0.1.0" in (tmp_path / "calls").read_text()
    context = tmp_path / "context"
    manifest = {name: json.loads((context / "map" / f"{name}.json").read_text()) for name in ("app", "pkg")}
    places = {name: manifest["app"]["environment"][f"HOLOSCAN_{name}"] for name in ("APPLICATION", "MODEL_PATH")}
    assert json.loads(manifest["app"]["command"]) == ["python3", places["APPLICATION"]]
    assert manifest["app"]["version"] == manifest["pkg"]["version"] == "0.1.0"
    assert manifest["pkg"]["models"] == {"dca_acdc": f"{places['MODEL_PATH']}/dca_acdc"}
    recipe = (context / "Dockerfile").read_text()
    for line in (f"./app {places['APPLICATION']}", f"./models  {places['MODEL_PATH']}", "./pip/requirements.txt "):
        assert f"COPY {line}" in recipe
    pins = (heart_app / "app" / "requirements.txt").read_text()
    assert (context / "pip" / "requirements.txt").read_text() == pins
    # As the container starts it: by variables alone, from a folder of its own. The phases are given.
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    given = {"INPUT": cine.source, "OUTPUT": tmp_path / "out", "MODEL": context / "models"}
    variables = {f"HOLOSCAN_{name}_PATH": str(path) for name, path in given.items()}
    variables |= {"HOLOSCAN_WORKDIR": str(tmp_path / "work"), "DCA_PHASES": "1,2"}
    run_app(context / "app", tmp_path / "work", **variables).check()
    for phase in (1, 2):
        assert_phase(cine, tmp_path / "out", f"phase{phase:02d}", phase)
    assert len(list((tmp_path / "out").glob("*/*.dcm"))) == 2
