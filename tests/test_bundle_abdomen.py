"""The 3D bundle for abdominal CT as a user runs it, on a small phantom: training, evaluation and inference."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.eulerangles import euler2mat

from scripts.checkpoints import load_tensors
from scripts.scoring.tables import read_scores_csv
from tests.bundle_commands import (
    EVALUATE,
    INFER,
    STEPS_3D,
    SYNAPSE,
    TINY_3D,
    TRAIN,
    TRAIN_PARALLEL,
    assert_resumes_exactly,
    edit_json,
    places,
    read_table,
    state,
    torchrun,
)
from tests.bundle_runner import BundleRunner
from tests.tiny_training import curves

LABELS = json.loads((SYNAPSE / "configs" / "data_set.json").read_text())["labels"]
LOSSES = ["loss", "loss_experts", "loss_aggregation", "loss_unlabelled"]


def options(data: Path, folder: Path) -> list[str]:
    """Data from `data`, everything that is written into `folder`, a tiny network and few steps."""
    return [*places(data, folder), *TINY_3D, *STEPS_3D]


def all_finite(folder: Path) -> bool:
    """Whether a run has no NaN or infinity in its losses, its score and the state of its method."""
    numbers = [
        float(value) for row in curves(folder) for key, value in row.items() if key in [*LOSSES, "val_mean_dice"]
    ]
    tensors = load_tensors(folder / "resume.pt")["method"].values()
    return bool(np.isfinite(numbers).all()) and all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_training_writes_the_model_what_it_is_the_checkpoint_and_the_curves(synapse_run: tuple[Path, str]) -> None:
    folder, _ = synapse_run
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    events = {file for file in files if file.startswith("tensorboard/")}
    assert events
    assert files - events == {"resume.pt", "curves.csv", "models/model.pt", "models/model.json", "models/last.pt"}
    rows = curves(folder)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4")]
    assert {*LOSSES, "val_mean_dice", *(f"dice {name}" for name in LABELS.values())} <= rows[0].keys()
    assert all_finite(folder)


def test_the_log_names_the_split_the_percentage_and_the_groups_of_classes(
    synapse_run: tuple[Path, str], abdomen_phantom: Path
) -> None:
    folder, log = synapse_run
    # One unlabelled case for batches of two: it is drawn again.
    cases = "2 labelled cases of 2 patients, 1 unlabelled cases of 1 patients, 1 validation cases of 1 patients"
    assert f"split {abdomen_phantom / 'split.json'} at 10 %: {cases}" in log
    grouping = json.loads((folder / "models" / "model.json").read_text())["found"]["grouping"]
    assert grouping["names"] == ["head", "medium", "tail"]
    for name, group in zip(grouping["names"], grouping["groups"], strict=True):
        assert f"  {name}: " + ", ".join(f"{c} {LABELS[str(c)]}" for c in group) in log.splitlines()


def test_what_stands_beside_the_model_agrees_with_it(synapse_run: tuple[Path, str], abdomen_phantom: Path) -> None:
    folder, _ = synapse_run
    about = json.loads((folder / "models" / "model.json").read_text())
    assert about["sha256"] == hashlib.sha256((folder / "models" / "model.pt").read_bytes()).hexdigest()
    assert (about["method"], about["percent"], about["split"]) == ("dca", 10, str(abdomen_phantom / "split.json"))
    assert about["labelled"] == ["abdomen001", "abdomen002"]
    assert about["labels"] == LABELS
    scores = [float(row["val_mean_dice"]) for row in curves(folder)]
    assert about["validation"]["val_mean_dice"] == pytest.approx(max(scores), abs=1e-6)
    assert about["validation"]["epoch"] == 1 + int(np.argmax(scores))
    groups = about["found"]["grouping"]["groups"]
    assert sorted(c for group in groups for c in group) == list(range(1, 14))
    owner = [next(expert for expert, group in enumerate(groups) if c in group) for c in range(1, 14)]
    assert load_tensors(folder / "models" / "model.pt")["owner"].tolist() == owner
    assert load_tensors(folder / "resume.pt")["method"]["predictor.owner"].tolist() == owner


def test_training_from_the_repository_root_killed_in_a_save_and_resumed_equals_the_unbroken_run(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path: Path
) -> None:
    assert_resumes_exactly(runner, SYNAPSE, options(abdomen_phantom, tmp_path), tmp_path, synapse_run[0])


def test_training_out_of_a_store_gives_the_same_weights(
    runner: BundleRunner, synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path: Path
) -> None:
    settings = ["--cache_dir", str(tmp_path / "store"), "--num_workers", "2"]
    runner.run([*TRAIN, *options(abdomen_phantom, tmp_path), *settings], SYNAPSE).check()
    assert state(tmp_path) == state(synapse_run[0])
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_training_in_reduced_precision_stays_finite(
    runner: BundleRunner, abdomen_phantom: Path, tmp_path: Path
) -> None:
    settings = ["--amp", "true", "--patch_size", "[48,16,16]"]
    runner.run([*TRAIN, *options(abdomen_phantom, tmp_path), *settings], SYNAPSE).check()
    assert all_finite(tmp_path)


@pytest.mark.parametrize(("percent", "cases"), [("10", "2 labelled"), ("100", "2 labelled cases of 2 patients, 0 un")])
def test_training_on_labels_alone(
    runner: BundleRunner, abdomen_phantom: Path, tmp_path: Path, percent: str, cases: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(abdomen_phantom, data)
    if percent == "100":  # the third training patient of the phantom has no label
        edit_json(data / "split.json", lambda split: split["train"].pop())
    settings = ["--method", "supervised", "--percent", percent]
    result = runner.run([*TRAIN, *options(data, tmp_path / "run"), *settings], SYNAPSE).check()
    assert f"at {percent} %: {cases}" in result.out
    assert not set(curves(tmp_path / "run")[0]) & set(LOSSES[1:])
    assert all_finite(tmp_path / "run")
    about = json.loads((tmp_path / "run" / "models" / "model.json").read_text())
    assert (about["method"], about["percent"], about["found"]) == ("supervised", int(percent), {})


def test_two_processes_train_with_torchrun(
    abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(abdomen_phantom, data)
    edit_json(data / "split.json", lambda split: split["validation"].append(split["test"].pop()))  # one per process
    torchrun(*TRAIN_PARALLEL, *options(data, tmp_path / "run"), cwd=SYNAPSE).check()
    alone, shared = (load_tensors(folder / "resume.pt") for folder in (synapse_run[0], tmp_path / "run"))
    assert (alone["epoch"], alone["iteration"]) == (2, 4)
    assert (shared["epoch"], shared["iteration"]) == (2, 2)  # of twice as many samples
    assert all_finite(tmp_path / "run")
    assert torch.equal(shared["method"]["predictor.owner"], alone["method"]["predictor.owner"])


@pytest.fixture(scope="module")
def evaluated(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of the scores of the trained model."""
    folder = tmp_path_factory.mktemp("scores")
    evaluate(runner, abdomen_phantom, synapse_run[0], folder)
    return folder


def evaluate(runner: BundleRunner, data: Path, run: Path, folder: Path, *settings: str) -> str:
    """Evaluate a run's model into `folder`; the log."""
    command = [*EVALUATE, *options(data, run), "--output_dir", str(folder), *settings]
    return runner.run(command, SYNAPSE).check().out


@pytest.mark.parametrize(
    ("name", "unit", "policy"), [("native_mm", "mm", "strict"), ("protocol_voxels", "voxels of 160x160x80", "fixed128")]
)
def test_evaluating_writes_scores_that_name_their_unit_and_policy(
    evaluated: Path, name: str, unit: str, policy: str
) -> None:
    rows = read_scores_csv(evaluated / f"scores_{name}.csv")
    assert [(row["case"], row["class"], row["name"]) for row in rows] == [
        ("abdomen004", int(c), label) for c, label in LABELS.items()
    ]
    assert {(row["unit"], row["policy"]) for row in rows} == {(unit, policy)}
    means = read_table(evaluated / f"summary_{name}.csv")
    assert [row["class"] for row in means] == [*LABELS, "average"]
    assert [row["name"] for row in means] == [*LABELS.values(), ""]
    assert {(row["unit"], row["policy"], row["cases"]) for row in means} == {(unit, policy, "1")}
    for metric in ("dice", "jaccard", "hd95", "asd"):
        assert [row[metric] for row in means[:-1]] == [f"{row[metric]:.6f}" for row in rows]


def test_evaluating_finds_the_score_that_training_chose_the_model_for(
    evaluated: Path, synapse_run: tuple[Path, str]
) -> None:
    about = json.loads((synapse_run[0] / "models" / "model.json").read_text())
    average = read_table(evaluated / "summary_native_mm.csv")[-1]
    assert float(average["dice"]) == pytest.approx(about["validation"]["val_mean_dice"], abs=1e-6)


def test_every_prediction_is_scored_from_the_same_checkpoint(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], evaluated: Path, tmp_path: Path
) -> None:
    found = {"aggregated": read_scores_csv(evaluated / "scores_native_mm.csv")}
    for prediction in ("stitched", "mean"):
        folder = tmp_path / prediction
        log = evaluate(runner, abdomen_phantom, synapse_run[0], folder, "--prediction", prediction)
        assert f"loaded {synapse_run[0] / 'models' / 'model.pt'}" in log
        found[prediction] = read_scores_csv(folder / "scores_native_mm.csv")
    assert len({str(rows) for rows in found.values()}) == 3
    assert len({len(rows) for rows in found.values()}) == 1


def test_inference_writes_label_maps_on_the_grid_of_each_image_of_a_folder(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path: Path
) -> None:
    image = nib.nifti1.load(abdomen_phantom / "images" / "abdomen005.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(z=0.2, x=-0.2)
    images = {
        "first/lps": image.as_reoriented(np.array([[0, 1], [1, -1], [2, 1]])),
        "second/oblique": nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine),
    }
    for name, volume in images.items():
        (tmp_path / name).parent.mkdir()
        volume.to_filename(tmp_path / f"{name}.nii.gz")
    folders = ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    runner.run([*INFER, *folders, "--ckpt_dir", str(synapse_run[0] / "models"), *TINY_3D], SYNAPSE).check()
    written = {path.name: nib.nifti1.load(path) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written.keys() == {"lps_seg.nii.gz", "oblique_seg.nii.gz"}
    maps = []
    for labels, volume in zip((written[name] for name in sorted(written)), images.values(), strict=True):
        assert labels.shape == volume.shape
        assert np.allclose(labels.affine, volume.affine, atol=1e-4)
        assert labels.get_data_dtype() == np.uint8
        maps.append(np.asarray(labels.dataobj))
        assert len(np.unique(maps[-1])) > 1
    # The network sees the same body in both, so that the maps differ by the mirrored axis alone.
    assert (maps[0][:, ::-1] == maps[1]).mean() > 0.999
