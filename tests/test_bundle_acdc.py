"""The bundle as a user runs it, on a small phantom: from both folders, cut off, over two processes, with bad input."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.checkpoints import load_tensors
from tests.bundle_runner import BUNDLE, ENVIRONMENT, ROOT, BundleRunner, Result
from tests.tiny_training import curves, fingerprint

STEPS = ["--steps", "6", "--val_steps", "2"]
TINY = ["--percent", "50", "--image_size", "[32,32]", "--network_def::width", "4"]
TRAIN = ["run", "training", "--config_file", "configs/train.json"]
EVALUATE = ["run", "evaluating", "--config_file", "['configs/train.json','configs/evaluate.json']"]

# That a config is code, and that a decoder of DICOM files is not installed.
MONAI_NOTES = ("parsing config_file ", "NvImgCodecPydicomReader: ", "nvImageCodec is not available")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundleRunner]:
    runner = BundleRunner(tmp_path_factory.mktemp("output"))
    yield runner
    runner.close()


def options(data: Path, folder: Path) -> list[str]:
    """Data from `data`, everything that is written into `folder`, a tiny network and few steps."""
    places = {"dataset_dir": data, "split_file": data / "split.json", "run_dir": folder, "ckpt_dir": folder / "models"}
    return [*(part for key, path in places.items() for part in (f"--{key}", str(path))), *TINY, *STEPS]


def shell(*command: str, cwd: Path = BUNDLE) -> Result:
    """Run a command in a process of its own."""
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    return Result(done.returncode, done.stdout, done.stderr)


def state(folder: Path) -> dict[str, str]:
    """Fingerprints of all parts of the checkpoint of a run, and of its best model."""
    parts = load_tensors(folder / "resume.pt") | {"model.pt": load_tensors(folder / "models" / "model.pt")}
    return {key: fingerprint(value) for key, value in parts.items()}


@pytest.fixture(scope="module")
def unbroken(heart_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run from the bundle folder, in a process of its own."""
    folder = tmp_path_factory.mktemp("unbroken")
    shell(sys.executable, "-m", "monai.bundle", *TRAIN, *options(heart_phantom, folder)).check()
    return folder


def test_training_writes_the_model_the_checkpoint_and_the_curves(unbroken: Path) -> None:
    files = {path.relative_to(unbroken).as_posix() for path in unbroken.rglob("*") if path.is_file()}
    events = {file for file in files if file.startswith("tensorboard/")}
    assert events
    assert files - events == {"resume.pt", "curves.csv", "models/model.pt"}
    rows = curves(unbroken)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4"), ("3", "6")]
    measured = ["loss", "loss_experts", "loss_aggregation", "loss_unlabelled", "val_mean_dice"]
    measured += [f"dice {name}" for name in ("right ventricle", "myocardium", "left ventricle")]
    assert np.isfinite([[float(row[column]) for column in measured] for row in rows]).all()


def test_training_from_the_repository_root_killed_in_a_save_and_resumed_equals_the_unbroken_run(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path
) -> None:
    command = [
        "run",
        "run",
        "--config_file",
        "bundles/dca_acdc/configs/train.json",
        "--bundle_root",
        "bundles/dca_acdc",
    ]
    command += options(heart_phantom, tmp_path)
    killed = runner.kill_in_save(2, command, cwd=ROOT)
    assert killed.code == -9, killed.out + killed.error
    partial = (tmp_path / "resume.pt.partial").stat().st_size
    assert 0 < partial < (tmp_path / "resume.pt").stat().st_size
    assert load_tensors(tmp_path / "resume.pt")["epoch"] == 1
    resumed = runner.run([*command, "--resume", "true"], cwd=ROOT).check()
    assert "resumed" in resumed.out
    assert "after epoch 1, step 2" in resumed.out
    assert state(tmp_path) == state(unbroken)
    assert curves(tmp_path) == curves(unbroken)
    assert not (tmp_path / "resume.pt.partial").exists()


def test_two_workers_train_the_same_weights(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path
) -> None:
    runner.run([*TRAIN, *options(heart_phantom, tmp_path), "--num_workers", "2"]).check()
    assert state(tmp_path) == state(unbroken)
    assert curves(tmp_path) == curves(unbroken)


def test_two_processes_train_with_torchrun(heart_phantom: Path, unbroken: Path, tmp_path: Path) -> None:
    configs = "['configs/train.json','configs/multi_gpu_train.json']"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "monai.bundle", "run", "training", "--config_file", configs]
    shell(*launcher, *command, *options(heart_phantom, tmp_path)).check()
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
    split = json.loads((data / "split.json").read_text())
    split["train"] = split["labelled"]["50"]
    (data / "split.json").write_text(json.dumps(split))
    runner.run([*TRAIN, *options(data, tmp_path / "run")]).check()
    with (tmp_path / "run" / "curves.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert "loss_aggregation" in columns
    assert "loss_unlabelled" not in columns


def test_a_wrong_folder_is_told_in_one_line_by_a_process_of_its_own(tmp_path: Path) -> None:
    command = [*TRAIN, "--dataset_dir", str(tmp_path / "nowhere")]
    assert_one_line(shell(sys.executable, "-m", "monai.bundle", *command), "nowhere/datalist.json", "no such file")


def value_7(data: Path) -> None:
    edit(data / "labels" / "heart002_ES.nii.gz", 7)


def not_a_number(data: Path) -> None:
    edit(data / "images" / "heart003_ED.nii.gz", np.nan)


def missing_label(data: Path) -> None:
    (data / "labels" / "heart001_ES.nii.gz").unlink()


def truncated_image(data: Path) -> None:
    path = data / "images" / "heart004_ES.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])


def flat_image(data: Path) -> None:
    path = data / "images" / "heart001_ED.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., 0], image.affine), path)


def smaller_label(data: Path) -> None:
    path = data / "labels" / "heart001_ED.nii.gz"
    label = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[:-4], label.affine), path)


def edit(path: Path, value: float) -> None:
    """Set one voxel of a volume."""
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).astype(np.float32)
    voxels[1, 2, 3] = value
    nib.save(nib.Nifti1Image(voxels, image.affine), path)


@pytest.mark.parametrize(
    ("damage", "file", "found"),
    [
        (value_7, "labels/heart002_ES.nii.gz", "expected label values 0..3, found 7"),
        (not_a_number, "images/heart003_ED.nii.gz", "found NaN or infinity"),
        (missing_label, "labels/heart001_ES.nii.gz", "expected a readable image"),
        (truncated_image, "images/heart004_ES.nii.gz", "expected a readable image"),
        (flat_image, "images/heart001_ED.nii.gz", "expected an image of 3 axes, found shape (64, 64)"),
        (smaller_label, "labels/heart001_ED.nii.gz", "the shape of its image (64, 64, 6), found (60, 64, 6)"),
    ],
)
def test_bad_files_are_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path, damage: Callable[[Path], None], file: str, found: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(heart_phantom, data)
    damage(data)
    assert_one_line(runner.run([*TRAIN, *options(data, tmp_path / "run")]), str(data / file), found)
    assert not (tmp_path / "run").exists()


def test_a_percentage_that_gives_no_patient_is_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    result = runner.run([*TRAIN, *options(heart_phantom, tmp_path), "--percent", "0.1"])
    assert_one_line(result, "split.json", "found 0.1 % of 4 patients")


@pytest.mark.parametrize(
    ("command", "file"), [([*TRAIN, "--resume", "true"], "resume.pt"), (EVALUATE, "models/model.pt")]
)
def test_a_checkpoint_of_another_network_is_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, unbroken: Path, tmp_path: Path, command: list[str], file: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    before = state(folder)
    result = runner.run([*command, *options(heart_phantom, folder), "--network_def::width", "8"])
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
    assert_one_line(
        runner.run([*TRAIN, *options(heart_phantom, folder)]), str(folder / file), "No space left on device"
    )
    assert (folder / file).read_bytes() == before
    assert not os.path.lexists(folder / f"{file}.partial")


def assert_one_line(result: Result, *parts: str) -> None:
    """Exit code 2, and on stderr, beside what MONAI says in every run, one line that holds the parts."""
    assert result.code == 2, result.out + result.error
    lines = [line for line in result.error.splitlines() if not line.startswith(MONAI_NOTES)]
    assert len(lines) == 1, result.error
    assert lines[0].startswith("error: ")
    assert all(part in lines[0] for part in parts), lines[0]
    assert "Traceback" not in result.out
