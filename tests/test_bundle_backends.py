"""`backend` openvino through all that infers: the bundle runner, evaluation, and `segment`."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.scoring.tables import read_scores_csv
from tests.bundle_commands import EVALUATE, INFER, STEPS_3D, SYNAPSE, TINY_3D, assert_one_line, places
from tests.bundle_runner import BundleRunner

CASE = "abdomen005"
OPENVINO = ["--backend", "openvino"]


def load(path: Path) -> NDArray[np.uint8]:
    return np.asarray(nib.nifti1.load(path).dataobj)


@pytest.fixture(scope="module")
def infer(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NDArray[np.uint8]]:
    """The label map of a case by each backend, through MONAI's bundle runner."""
    maps = {}
    for backend in ("torch", "openvino"):
        output = tmp_path_factory.mktemp(backend)
        folders = ["--dataset_dir", str(abdomen_phantom / "images" / f"{CASE}.nii.gz"), "--output_dir", str(output)]
        model = ["--ckpt_dir", str(synapse_run[0] / "models"), "--backend", backend]
        runner.run([*INFER, *folders, *model, *TINY_3D], SYNAPSE).check()
        maps[backend] = load(output / f"{CASE}_seg.nii.gz")
    return maps


def test_both_engines_give_the_same_label_map(infer: dict[str, NDArray[np.uint8]]) -> None:
    assert len(np.unique(infer["torch"])) > 2
    assert (infer["torch"] == infer["openvino"]).mean() > 0.999


def test_segment_gives_what_the_bundle_runner_gives(
    infer: dict[str, NDArray[np.uint8]],
    runner: BundleRunner,
    abdomen_phantom: Path,
    synapse_run: tuple[Path, str],
    tmp_path: Path,
) -> None:
    settings = [
        f"{key.removeprefix('--')}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)
    ]
    words = ["segment", str(abdomen_phantom / "images" / f"{CASE}.nii.gz"), str(tmp_path), "--bundle", "dca_synapse"]
    words += ["--model", str(synapse_run[0] / "models"), "--disagreement"]
    runner.run_tool([*words, "--set", *settings, "backend=openvino"]).check()
    assert np.array_equal(load(tmp_path / CASE / "labels.nii.gz"), infer["openvino"])
    assert load(tmp_path / CASE / "disagreement.nii.gz").any()


def test_evaluation_gives_the_same_scores(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path: Path
) -> None:
    scores = []
    for backend in ("torch", "openvino"):
        folder = tmp_path / backend
        words = [*places(abdomen_phantom, synapse_run[0]), *TINY_3D, *STEPS_3D, "--score_names", "['dice']"]
        runner.run([*EVALUATE, *words, "--output_dir", str(folder), "--backend", backend], SYNAPSE).check()
        scores.append([row["dice"] for row in read_scores_csv(folder / "scores_native_mm.csv")])
    assert len(scores[0]) > 5
    np.testing.assert_allclose(*scores, atol=2e-3)


def test_a_wrong_engine_is_told_in_one_line(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str]
) -> None:
    model = ["--dataset_dir", str(abdomen_phantom / "images"), "--ckpt_dir", str(synapse_run[0] / "models"), *TINY_3D]
    told = runner.run([*INFER, *model, "--backend", "opnvino"], SYNAPSE)
    assert_one_line(told, "backend: expected torch or openvino, found 'opnvino'")
