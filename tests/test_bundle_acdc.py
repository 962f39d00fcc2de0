"""The bundle as a user runs it, on a small phantom: from both folders, cut off, over two processes, with bad input."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.checkpoints import load_tensors
from tests.bundle_commands import (
    ACDC,
    EVALUATE,
    TRAIN,
    TRAIN_PARALLEL,
    assert_one_line,
    assert_resumes_exactly,
    edit_json,
    places,
    shell,
    state,
    torchrun,
)
from tests.bundle_runner import BundleRunner
from tests.damage import Damage, cut_off, damaged_copy, keep, set_voxel
from tests.tiny_training import curves

STEPS = ["--steps", "6", "--val_steps", "2"]
TINY = ["--percent", "50", "--image_size", "[32,32]", "--network_def::width", "4"]


def options(data: Path, folder: Path) -> list[str]:
    """Data from `data`, everything that is written into `folder`, a tiny network and few steps."""
    return [*places(data, folder), *TINY, *STEPS]


@pytest.fixture(scope="module")
def unbroken(heart_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run from the bundle folder, in a process of its own."""
    folder = tmp_path_factory.mktemp("unbroken")
    shell(sys.executable, "-m", "monai.bundle", *TRAIN, *options(heart_phantom, folder), cwd=ACDC).check()
    return folder


def test_training_writes_the_model_the_checkpoint_and_the_curves(unbroken: Path) -> None:
    files = {path.relative_to(unbroken).as_posix() for path in unbroken.rglob("*") if path.is_file()}
    events = {file for file in files if file.startswith("tensorboard/")}
    assert events
    assert files - events == {"resume.pt", "curves.csv", "models/model.pt", "models/model.json", "models/last.pt"}
    rows = curves(unbroken)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4"), ("3", "6")]
    measured = ["loss", "loss_experts", "loss_aggregation", "loss_unlabelled", "val_mean_dice"]
    measured += [f"dice {name}" for name in ("right ventricle", "myocardium", "left ventricle")]
    assert np.isfinite([[float(row[column]) for column in measured] for row in rows]).all()


def test_training_from_the_repository_root_killed_in_a_save_and_resumed_equals_the_unbroken_run(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path
) -> None:
    assert_resumes_exactly(runner, ACDC, options(heart_phantom, tmp_path), tmp_path, unbroken)


def test_two_workers_train_the_same_weights(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path
) -> None:
    runner.run([*TRAIN, *options(heart_phantom, tmp_path), "--num_workers", "2"], ACDC).check()
    assert state(tmp_path) == state(unbroken)
    assert curves(tmp_path) == curves(unbroken)


def test_two_processes_train_with_torchrun(heart_phantom: Path, unbroken: Path, tmp_path: Path) -> None:
    torchrun(*TRAIN_PARALLEL, *options(heart_phantom, tmp_path), cwd=ACDC).check()
    alone, shared = load_tensors(unbroken / "resume.pt"), load_tensors(tmp_path / "resume.pt")
    # Half as many steps, each over twice as many samples: the same data per epoch (see test_data).
    assert (alone["epoch"], alone["iteration"]) == (3, 6)
    assert (shared["epoch"], shared["iteration"]) == (3, 3)
    assert [row["epoch"] for row in curves(tmp_path)] == ["1", "2", "3"]
    assert np.isfinite([float(row["loss"]) for row in curves(tmp_path)]).all()
    assert all(torch.isfinite(value).all() for value in shared["method"].values())
    assert alone.keys() == shared.keys()
    assert alone["method"].keys() == shared["method"].keys()
    models = [load_tensors(folder / "models" / "model.pt") for folder in (unbroken, tmp_path)]
    assert models[0].keys() == models[1].keys()


def test_training_without_unlabelled_cases_is_supervised(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(heart_phantom, data)
    edit_json(data / "split.json", lambda split: split.update(train=split["labelled"]["50"]))
    runner.run([*TRAIN, *options(data, tmp_path / "run")], ACDC).check()
    with (tmp_path / "run" / "curves.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert "loss_aggregation" in columns
    assert "loss_unlabelled" not in columns


def test_a_wrong_folder_is_told_in_one_line_by_a_process_of_its_own(tmp_path: Path) -> None:
    command = [*TRAIN, "--dataset_dir", str(tmp_path / "nowhere")]
    result = shell(sys.executable, "-m", "monai.bundle", *command, cwd=ACDC)
    assert_one_line(result, "nowhere/datalist.json", "no such file")


@pytest.mark.parametrize(
    ("file", "damage", "found"),
    [
        ("labels/heart002_ES.nii.gz", set_voxel(7), "expected label values 0..3, found 7"),
        ("images/heart003_ED.nii.gz", set_voxel(np.nan), "found NaN or infinity"),
        ("labels/heart001_ES.nii.gz", Path.unlink, "expected a 3D NIfTI volume, found no such file"),
        ("images/heart004_ES.nii.gz", cut_off, "expected a readable image"),
        ("images/heart001_ED.nii.gz", keep(np.s_[..., 0]), "expected a 3D NIfTI volume, found 2D (64 x 64)"),
        ("labels/heart001_ED.nii.gz", keep(np.s_[:-4]), "the shape of its image (64, 64, 6), found (60, 64, 6)"),
    ],
)
def test_bad_files_are_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path, file: str, damage: Damage, found: str
) -> None:
    data = damaged_copy(heart_phantom, tmp_path / "data", file, damage)
    assert_one_line(runner.run([*TRAIN, *options(data, tmp_path / "run")], ACDC), str(data / file), found)
    assert not (tmp_path / "run").exists()


def test_a_percentage_that_gives_no_patient_is_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    result = runner.run([*TRAIN, *options(heart_phantom, tmp_path), "--percent", "0.1"], ACDC)
    assert_one_line(result, "split.json", "found 0.1 % of 4 patients")


@pytest.mark.parametrize("command", [TRAIN, [*EVALUATE, "--evaluate_on", "test"]], ids=["training", "evaluation"])
def test_a_split_with_patients_of_two_roles_is_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path, command: list[str]
) -> None:
    data, folder = (tmp_path / name for name in ("data", "run"))
    shutil.copytree(heart_phantom, data)
    shutil.copytree(unbroken, folder)
    before = state(folder)
    edit_json(data / "split.json", lambda split: split["test"].append(split["train"][0]))
    result = runner.run([*command, *options(data, folder)], ACDC)
    assert_one_line(result, f"{data / 'split.json'}: expected each patient", "found heart001 in both train and test")
    assert state(folder) == before
    assert not (folder / "test").exists()


@pytest.mark.parametrize(
    ("command", "file"), [([*TRAIN, "--resume", "true"], "resume.pt"), (EVALUATE, "models/model.pt")]
)
def test_a_checkpoint_of_another_network_is_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path, command: list[str], file: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    before = state(folder)
    result = runner.run([*command, *options(heart_phantom, folder), "--network_def::width", "8"], ACDC)
    assert_one_line(result, str(folder / file), "a checkpoint of another network")
    assert state(folder) == before


@pytest.mark.parametrize("file", ["resume.pt", "models/model.pt"])
def test_no_space_left_is_told_in_one_line_and_nothing_is_lost(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    before = (folder / file).read_bytes()
    (folder / f"{file}.partial").symlink_to("/dev/full")  # a device on which every write finds no space
    result = runner.run([*TRAIN, *options(heart_phantom, folder)], ACDC)
    assert_one_line(result, str(folder / file), "no space left on the disk")
    assert (folder / file).read_bytes() == before
    assert not os.path.lexists(folder / f"{file}.partial")
