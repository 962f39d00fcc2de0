"""Writes apps of MONAI Deploy, runs them as processes of their own, and reads what they wrote."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tests.bundle_runner import BundleRunner, Result
from tools.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = Path(os.environ.get("DEPLOY_VENV", ROOT / ".venv-deploy")) / "bin"


@dataclass
class Run:
    """What an app was or is to be run on, how that ended, and what `segment` makes of the same volumes as NIfTI."""

    source: Path
    output: Path
    images: dict[str, nib.Nifti1Image]
    expected: dict[str, NDArray[np.uint8]]
    result: Result | None = None


def expected_labels(
    runner: BundleRunner, bundle: str, models: Path, images: dict[str, nib.Nifti1Image], folder: Path
) -> dict[str, NDArray[np.uint8]]:
    """The label maps that `segment` makes of images."""
    (folder / "nifti").mkdir()
    for name, image in images.items():
        image.to_filename(folder / "nifti" / f"{name}.nii.gz")
    command = ["segment", str(folder / "nifti"), str(folder / "segment"), "--bundle", bundle, "--formats", "nifti"]
    runner.run_tool([*command, "--model", str(models)]).check()
    paths = {name: folder / "segment" / name / "labels.nii.gz" for name in images}
    return {name: np.asarray(nib.nifti1.load(path).dataobj).astype(np.uint8) for name, path in paths.items()}


def write_app(bundle: str, models: Path, folder: Path) -> Path:
    """An app with a model, in an unrelated folder."""
    assert main(["deploy", "--bundle", bundle, "--models", str(models), "--output", str(folder)]) == 0
    return folder / f"{bundle}_app"


def run_app(code: Path, cwd: Path, *arguments: str | Path, **variables: str) -> Result:
    """`python CODE ARGUMENTS` in the environment of `make deploy`, where nothing of this project is importable."""
    assert (ENVIRONMENT / "python").exists(), "make deploy"
    return _run([ENVIRONMENT / "python", code, *arguments], cwd, variables | {"OMP_NUM_THREADS": "1"})


def package_app(app: Path, tag: str, docker: Path) -> Result:
    """`monai-deploy package` with the `docker` that lies in the folder `docker`, and without the internet."""
    holoscan = next(line for line in (app / "app" / "requirements.txt").read_text().splitlines() if "-cu13" in line)
    images = {"base-images": {"dgpu": "base"}, "build-images": {key: {} for key in ("igpu", "dgpu", "cpu")}}
    versions = {"wheel-version": "", "debian-version": ""}
    sources = docker / "sources.json"
    sources.write_text(json.dumps({holoscan.split("==")[1]: {"holoscan": images | versions}}))
    command = [ENVIRONMENT / "monai-deploy", "package", app / "app", "--config", app / "app.yaml"]
    command += ["--models", app / "models", "--platform", "x86_64", "--tag", tag, "--source", sources]
    path = os.pathsep.join([str(docker), os.environ["PATH"]])
    return _run([*command, "--build-cache", docker / "cache"], docker, {"PATH": path})


def _run(command: list[str | Path], cwd: Path, variables: dict[str, str]) -> Result:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": ""} | variables,
        capture_output=True,
        text=True,
        timeout=900,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def folder_of(output: Path, uid: str) -> Path:
    """The results of a series."""
    (folder,) = (
        path.parent for path in output.glob("*/case.json") if json.loads(path.read_text())["settings"]["image"] == uid
    )
    return folder


def labels_in_patient(segmentation: Path, image: nib.Nifti1Image, names: dict[str, int]) -> NDArray[np.uint8]:
    """The classes of a DICOM SEG on the grid of an image, by where each voxel lies in the patient.

    Args:
        segmentation: the file.
        image: whose grid.
        names: class ids by the segments' labels.
    """
    read = hd.seg.segread(segmentation)
    volume = read.get_volume(combine_segments=True)
    ids = {number: names[read.get_segment_description(number).SegmentLabel] for number in read.segment_numbers}
    found = np.argwhere(volume.array > 0)
    lps = (volume.affine @ np.c_[found, np.ones(len(found))].T)[:3]
    ras = np.r_[lps * [[-1], [-1], [1]], np.ones((1, len(found)))]
    index = (np.linalg.inv(image.affine) @ ras)[:3]
    assert np.abs(index - index.round()).max() < 0.01  # the same grid
    labels = np.zeros(image.shape, np.uint8)
    labels[tuple(index.round().astype(int))] = [ids[int(number)] for number in volume.array[tuple(found.T)]]
    return labels


def segments_of(bundle: Path) -> dict[str, Any]:
    """What configs/segments.json says of each class, by its name, with the class."""
    entries = json.loads((bundle / "configs" / "segments.json").read_text())["segments"]
    return {entry["name"]: entry | {"class": int(c)} for c, entry in entries.items()}


def errors_of(result: Result) -> list[str]:
    """The lines that tell what went wrong."""
    return [line for line in result.error.splitlines() if line.startswith("error: ")]
