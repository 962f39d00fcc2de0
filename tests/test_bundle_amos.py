"""The bundle for CT and MR as a user runs it, on a small phantom of both: absent classes, scaling, scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.checkpoints import load_tensors
from tests.bundle_commands import (
    AMOS,
    EVALUATE,
    INFER,
    STEPS_3D,
    TINY_3D,
    TRAIN,
    assert_one_line,
    edit_json,
    places,
    read_table,
)
from tests.bundle_runner import BundleRunner
from tests.damage import change
from tests.tiny_training import curves

LABELS = json.loads((AMOS / "configs" / "data_set.json").read_text())["labels"]
ABSENT = [13, 14, 15]  # duodenum, bladder, prostate: the phantom has none
MR = ("amos_0002", "amos_0003", "amos_0005")


def options(data: Path, folder: Path) -> list[str]:
    """Data from `data`, everything that is written into `folder`, a tiny network and few steps."""
    return [*places(data, folder), *TINY_3D, *STEPS_3D]


@pytest.fixture(scope="module")
def amos_phantom(abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The abdomen phantom with AMOS's classes and ids; of each role one case is CT, and one that is MR.

    Labelled: 0001 CT, 0002 MR; unlabelled: 0003 MR; validation: 0004 CT, 0005 MR.
    """
    folder = tmp_path_factory.mktemp("amos") / "data"
    shutil.copytree(abdomen_phantom, folder)
    ids = np.array([*range(10), 0, 10, 11, 12], np.uint8)  # no portal vein, and the others move up
    for path in sorted(folder.glob("*/*.nii.gz")):
        path = path.rename(path.with_name(path.name.replace("abdomen", "amos_0")))
        if path.parent.name == "labels":
            change(lambda voxels: ids[voxels])(path)
        elif path.name.split(".")[0] in MR:
            change(lambda voxels: np.sqrt(voxels.clip(-1000) + 1000.0).astype(np.float32))(path)
    for path in (folder / "datalist.json", folder / "split.json"):
        path.write_text(path.read_text().replace("abdomen", "amos_0"))
    edit_json(folder / "datalist.json", name_modalities)
    edit_json(folder / "split.json", lambda split: split["validation"].append(split["test"].pop()))
    return folder


def name_modalities(datalist: dict[str, Any]) -> None:
    """The modality of each case, and the names of the bundle's classes."""
    datalist |= {"modality": "CT+MR", "labels": {"0": "background"} | LABELS}
    for case in datalist["cases"]:
        case["modality"] = "MR" if case["id"] in MR else "CT"


@pytest.fixture(scope="module")
def trained(runner: BundleRunner, amos_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and log of a tiny training."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, runner.run([*TRAIN, *options(amos_phantom, folder)], AMOS).check().out


def test_classes_without_a_labelled_voxel_are_named_rank_last_and_do_no_harm(trained: tuple[Path, str]) -> None:
    folder, log = trained
    assert "WARNING: no labelled voxel of class 13, 14, 15" in log
    assert "14 bladder" in log
    groups = json.loads((folder / "models" / "model.json").read_text())["found"]["grouping"]["groups"]
    assert groups[2][-3:] == ABSENT
    state = load_tensors(folder / "resume.pt")["method"]
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert state["predictor.owner"][12:].tolist() == [2, 2, 2]
    numbers = {key: [float(row[key]) for row in curves(folder)] for key in curves(folder)[0]}
    absent = {f"dice {LABELS[str(c)]}" for c in ABSENT}  # no score where neither side has a voxel, as the policy says
    assert np.isfinite([values for key, values in numbers.items() if key not in absent]).all()
    assert all(value == 0 or np.isnan(value) for key in absent for value in numbers[key])


def test_each_way_to_scale_mr_trains_its_own_weights(
    runner: BundleRunner, amos_phantom: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    command = [*TRAIN, *options(amos_phantom, tmp_path), "--mr_scaling", "percentiles"]
    runner.run(command, AMOS).check()
    losses = [[float(row["loss"]) for row in curves(folder)] for folder in (trained[0], tmp_path)]
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]


def test_evaluating_gives_the_scores_of_each_modality(
    runner: BundleRunner, amos_phantom: Path, trained: tuple[Path, str]
) -> None:
    runner.run([*EVALUATE, *options(amos_phantom, trained[0])], AMOS).check()
    folder = trained[0] / "validation"
    scores, means = (read_table(folder / f"{file}_protocol_voxels.csv") for file in ("scores", "summary"))
    assert {(row["case"], row["modality"]) for row in scores} == {("amos_0004", "CT"), ("amos_0005", "MR")}
    assert [row["class"] for row in scores] == [*LABELS] * 2
    assert [row["modality"] for row in means] == [m for m in ("all", "CT", "MR") for _ in range(16)]
    averages = [float(row["dice"]) for row in means if row["class"] == "average"]
    assert averages[0] == pytest.approx((averages[1] + averages[2]) / 2, abs=1e-6)


def test_inference_on_mr_has_to_be_asked_for(
    runner: BundleRunner, amos_phantom: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    image = amos_phantom / "images" / "amos_0005.nii.gz"
    folders = ["--dataset_dir", str(image), "--ckpt_dir", str(trained[0] / "models"), "--output_dir", str(tmp_path)]
    command = [*INFER, *folders, *TINY_3D]
    assert_one_line(runner.run(command, AMOS), str(image), "expected CT in Hounsfield units", "--modality MR")
    assert not list(tmp_path.iterdir())
    runner.run([*command, "--modality", "MR", "--mr_scaling", "percentiles"], AMOS).check()
    labels = nib.nifti1.load(tmp_path / "amos_0005_seg.nii.gz")
    assert labels.shape == nib.nifti1.load(image).shape


def test_ct_by_name_has_to_be_in_hounsfield_units(runner: BundleRunner, amos_phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(amos_phantom, data)
    edit_json(data / "datalist.json", lambda datalist: datalist["cases"][1].update(modality="CT"))
    result = runner.run([*TRAIN, *options(data, tmp_path / "run")], AMOS)
    assert_one_line(result, str(data / "images" / "amos_0002.nii.gz"), "expected CT in Hounsfield units")
