"""From folders of scans to a bundle that trains, is scored, infers, is packaged and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.bundle_commands import EVALUATE, INFER, TINY_3D, TRAIN
from tests.bundle_runner import BundleRunner
from tools.__main__ import main
from tools.phantom.command import make_phantom

TINY_2D = ["--image_size", "[32,32]", "--width", "4", "--amp", "false"]
STEPS = ["--steps", "4", "--val_steps", "2"]
ORGANS = ["spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach", "aorta"]
ORGANS += ["inferior vena cava", "portal and splenic veins", "pancreas", "right adrenal gland", "left adrenal gland"]


def folders(phantom: Path, target: Path, merge: Callable[[Any], Any] | None = None) -> list[str]:
    """A phantom's images and labels as two plain folders, with other numbers in the labels if asked for."""
    shutil.copytree(phantom / "images", target / "scans")
    (target / "drawn").mkdir()
    for path in sorted((phantom / "labels").glob("*.nii.gz")):
        label = nib.nifti1.load(path)
        values = np.asarray(label.dataobj)
        merged = values if merge is None else merge(values).astype(np.uint8)
        nib.nifti1.Nifti1Image(merged, label.affine).to_filename(target / "drawn" / path.name)
    return ["--images", str(target / "scans"), "--labels", str(target / "drawn")]


def names(folder: Path, *classes: str) -> list[str]:
    file = folder / "classes.json"
    file.write_text(json.dumps({str(number): name for number, name in enumerate(classes, 1)}))
    return ["--classes", str(file)]


def config(bundle: Path, name: str) -> Any:
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


KINDS = ["2D MR, 2 classes", "3D CT, 13 classes", "3D MR, 4 classes, 2 channels", "3D binary"]


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest,
    heart_phantom: Path,
    abdomen_phantom: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[str], int]:
    """A bundle made without a trial, what makes its trainings tiny, and the number of its classes."""
    folder = tmp_path_factory.mktemp("new")
    if request.param == "2D MR, 2 classes":
        found = [*folders(heart_phantom, folder, lambda v: np.minimum(v, 2)), *names(folder, "blood", "myocardium")]
        tiny, count = TINY_2D, 2
    elif request.param == "3D MR, 4 classes, 2 channels":
        phantom = folder / "two"
        make_phantom("heart", phantom, cases=3, labelled=2, validation=1, test=0, size=(64, 64, 6), channels=2)
        halves = np.arange(6) >= 3  # the left ventricle is two classes
        found = [*folders(phantom, folder, lambda v: v + halves * (v == 3)), *names(folder, "a", "b", "c", "d")]
        found += ["--dims", "3"]
        tiny, count = TINY_3D, 4
    elif request.param == "3D binary":
        found = folders(abdomen_phantom, folder, lambda v: v > 0)
        tiny, count = TINY_3D, 1
    else:
        found = [*folders(abdomen_phantom, folder), *names(folder, *ORGANS)]
        tiny, count = TINY_3D, 13
    assert main(["new", "mine", *found, "--no-trial", "--output", str(folder / "out")]) == 0
    return folder / "out" / "mine", [*tiny, *STEPS], count


def test_a_bundle_trains_is_scored_infers_and_is_packaged(
    made: tuple[Path, list[str], int], runner: BundleRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, tiny, count = made
    code = main(["check", str(bundle / "configs" / "train.json"), "--bundle_root", str(bundle)])
    assert code == 0, capsys.readouterr().err
    models, scan = tmp_path / "models", tmp_path / "scan"
    run = ["--run_dir", str(tmp_path / "run"), "--ckpt_dir", str(models)]
    runner.run([*TRAIN, *run, *tiny], bundle).check()
    about = json.loads((models / "model.json").read_text())
    assert len(about["labels"]) == count
    shape = tiny[: -len(STEPS)]
    runner.run([*EVALUATE, *run, *shape], bundle).check()
    rows = (tmp_path / "run" / "validation" / "scores_native_mm.csv").read_text().splitlines()
    assert len(rows) > count
    scan.mkdir()
    channels = json.loads((bundle / "configs" / "train.json").read_text())["in_channels"]
    for path in sorted((bundle.parents[1] / "scans").iterdir())[:channels]:
        shutil.copy(path, scan)
    where = ["--dataset_dir", str(scan), "--ckpt_dir", str(models), "--output_dir", str(tmp_path / "out")]
    runner.run([*INFER, *where, *shape], bundle).check()
    (label,) = (tmp_path / "out").iterdir()
    assert nib.nifti1.load(label).shape == nib.nifti1.load(path).shape
    assert main(["segment", str(scan), str(tmp_path / "seg"), "--bundle", str(bundle), "--model", str(models)]) == 0
    assert len((tmp_path / "seg" / "volumes.csv").read_text().splitlines()) == count + 1
    assert main(["package", str(bundle), "--output", str(tmp_path / "dist"), "--models", str(models)]) == 0
    packaged = json.loads((tmp_path / "dist" / "mine" / "configs" / "train.json").read_text())
    assert packaged["data_set"]["labels"] == about["labels"]
    assert not (tmp_path / "dist" / "mine" / "data").exists()


def test_methods_are_compared_on_a_bundle_elsewhere(
    made: tuple[Path, list[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, tiny, _ = made
    settings = [f"{key.removeprefix('--')}={value.title()}" for key, value in zip(tiny[::2], tiny[1::2], strict=True)]
    options = ["--methods", "supervised", "--dataset_dir", str(bundle / "data"), "--output", str(tmp_path / "out")]
    settings = [one for one in settings if not one.startswith("steps")]
    code = main(["compare", "--bundle", str(bundle), *options, "--steps", "2", "--set", *settings])
    assert code == 0, capsys.readouterr().out
    assert (tmp_path / "out" / "supervised" / "seed0" / "models" / "model.pt").is_file()


def test_the_plan_says_what_was_decided_and_the_configs_have_it(made: tuple[Path, list[str], int]) -> None:
    bundle, _, count = made
    plan = (bundle / "plan.md").read_text()
    train, infer, data = (config(bundle, name) for name in ("train", "inference", "data_set"))
    assert train["preset"] == infer["preset"] == "planned"
    preset = train["presets"]["planned"]
    assert f"| steps | {preset['steps']} |" in plan
    assert infer["presets"]["planned"].items() <= preset.items()
    assert len(data["labels"]) == count
    assert plan.count("\n| 1 ") == 1
    assert train["in_channels"] == infer["in_channels"] == (2 if count == 4 else 1)
    assert (
        len(config(bundle, "metadata")["network_data_format"]["inputs"]["image"]["channel_def"]) == train["in_channels"]
    )
    if count == 4:
        assert (train["scaling"], data["modalities"], train["flip_probability"]) == ("percentiles", ["MR"], 0.5)
    elif "image_size" in preset:
        assert (train["scaling"], data["modalities"], train["flips"]) == ("percentiles", ["MR"], True)
    else:
        assert (train["scaling"], data["modalities"]) == ("window", ["CT"])
        low, high = train["window"]
        assert low < high
        assert train["window"] == infer["window"]
        sided = count == 13
        assert train["flip_probability"] == (0.0 if sided else 0.5)
        assert train["recipes"]["strong"]["mirror_axes"] == ([] if sided else [0, 1, 2])


def test_a_split_is_by_patient_and_the_datalist_lists_the_images_where_they_are(
    made: tuple[Path, list[str], int],
) -> None:
    bundle, _, _ = made
    split, listed = (
        config(bundle.parent / "mine", "data_set")["split"],
        json.loads((bundle / "data" / "datalist.json").read_text()),
    )
    roles = json.loads((bundle / "splits" / split).read_text())
    assert not set(roles["train"]) & set(roles["validation"])
    assert {case["patient"] for case in listed["cases"]} == {*roles["train"], *roles["validation"], *roles["test"]}
    for case in listed["cases"]:
        files = case["image"] if isinstance(case["image"], list) else [case["image"]]
        assert len(files) == config(bundle, "train")["in_channels"]
        assert all(Path(file).is_file() for file in files)


def test_a_trial_measures_a_step_and_its_memory_and_hours_become_steps(
    heart_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = folders(heart_phantom, tmp_path)
    assert main(["new", "mine", *found, "--hours", "0.02", "--output", str(tmp_path / "out")]) == 0
    plan = (tmp_path / "out" / "mine" / "plan.md").read_text()
    assert "measured here; 0.02 hours" in plan
    assert " GiB allowed" in plan
    steps = config(tmp_path / "out" / "mine", "train")["presets"]["planned"]["steps"]
    assert 100 <= steps <= 30_000
    code = main(["new", "less", *found, "--memory", "0.01", "--output", str(tmp_path / "out")])
    assert (code, capsys.readouterr().err.count("GiB for the smallest plan, found 0.0; allow more")) == (2, 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_finding_that_is_wrong_is_accepted_by_its_kind(
    heart_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = iter([True] + [False] * 99)
    found = folders(
        heart_phantom, tmp_path, lambda v: np.where(v == 1, 2, np.where(v == 2, 1, v)) if next(turned) else v
    )
    command = ["new", "mine", *found, "--no-trial", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert "error: mirrored: " in said.out
    assert "--accept KIND" in said.err
    for kind, code in (("miror", 2), ("leakage", 2), ("mirrored", 0)):
        assert main([*command, "--accept", kind]) == code
    assert "warning: mirrored: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Mine", "1st", "a/b", "..", "dca_acdc", "scripts", "a" * 64, ""])
def test_a_name_is_plain_and_new(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name, "--images", str(tmp_path), "--output", str(tmp_path)]) == 2
    assert "NAME: expected small letters" in capsys.readouterr().err


def spoil(folder: Path, how: str) -> list[str]:
    """Make something wrong with folders of scans and labels; more arguments."""
    images, labels = (sorted((folder / part).iterdir()) for part in ("scans", "drawn"))
    if how == "a value that is no class":
        label = nib.nifti1.load(labels[0])
        values = np.asarray(label.dataobj).copy()
        values[0, 0, 0] = 9
        nib.nifti1.Nifti1Image(values, label.affine).to_filename(labels[0])
        return names(folder, "a", "b", "c")
    if how == "one labelled patient":
        for path in labels:
            if not path.name.startswith(labels[0].name[:8]):
                path.unlink()
    elif how == "one image under two patients, in training and validation":
        keep = {path.name[:8] for path in labels}
        first, second = sorted(keep)[:2]
        for phase in ("ED", "ES"):
            shutil.copyfile(folder / "scans" / f"{first}_{phase}.nii.gz", folder / "scans" / f"{second}_{phase}.nii.gz")
            shutil.copyfile(folder / "drawn" / f"{first}_{phase}.nii.gz", folder / "drawn" / f"{second}_{phase}.nii.gz")
        for path in labels:
            if path.name[:8] not in (first, second):
                path.unlink()
    elif how in ("images for labels", "nothing drawn"):
        for path in labels:
            image = nib.nifti1.load(folder / "scans" / path.name)
            values = np.asarray(image.dataobj) * (how == "images for labels")
            nib.nifti1.Nifti1Image(values, image.affine).to_filename(path)
    elif how == "RGB":
        image = nib.nifti1.load(images[0])
        colour = np.zeros(image.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.nifti1.Nifti1Image(colour, image.affine).to_filename(images[0])
    elif how == "complex":
        image = nib.nifti1.load(images[0])
        nib.nifti1.Nifti1Image(np.asarray(image.dataobj).astype(np.complex64), image.affine).to_filename(images[0])
    elif how == "4D":
        image = nib.nifti1.load(images[0])
        nib.nifti1.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, -1), image.affine).to_filename(images[0])
    elif how == "a class that is missing":
        for path in labels:
            label = nib.nifti1.load(path)
            nib.nifti1.Nifti1Image(
                np.where(np.asarray(label.dataobj) == 2, 0, label.dataobj), label.affine
            ).to_filename(path)
    return []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("a value that is no class", "9 (1 voxels)"),
        ("one labelled patient", "expected at least two patients with labels"),
        ("one image under two patients, in training and validation", "leakage"),
        ("images for labels", "expected a label map of whole numbers from 0 on, found the values"),
        ("nothing drawn", "expected a class in some label, found background only"),
        ("RGB", "expected one number per voxel"),
        ("complex", "expected one number per voxel"),
        ("4D", "expected a 3D NIfTI volume, found 4D"),
        ("a class that is missing", "expected the classes 1, 2, ... without gaps, found 1, 3"),
    ],
)
def test_bad_data_are_told_before_anything_is_written(
    how: str, words: str, heart_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = folders(heart_phantom, tmp_path)
    found += spoil(tmp_path, how)
    code = main(["new", "mine", *found, "--no-trial", "--output", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert code == 2
    assert words in said.out + said.err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
