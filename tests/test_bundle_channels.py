"""Images of two channels through a bundle of slices and one of volumes: trained, scored, segmented from any files."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.checkpoints import load_tensors
from tests.bundle_commands import ACDC, EVALUATE, INFER, STEPS_3D, SYNAPSE, TINY_3D, TRAIN, places, read_table
from tests.bundle_runner import BundleRunner, Result
from tools.phantom.command import make_phantom

KINDS = {
    "heart": (ACDC, ["--image_size", "[32,32]", "--network_def::width", "4"], ["--steps", "4", "--val_steps", "2"]),
    "abdomen": (SYNAPSE, TINY_3D, STEPS_3D),
}
SIZES = {"heart": (48, 48, 5), "abdomen": (56, 56, 40)}


@dataclass(frozen=True)
class Run:
    """A tiny training: the bundle, its data, where it wrote, and the options that inference needs, too."""

    bundle: Path
    data: Path
    folder: Path
    options: list[str]


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, runner: BundleRunner, tmp_path_factory: pytest.TempPathFactory) -> Run:
    bundle, tiny, steps = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    content = make_phantom(
        request.param, folder / "data", 2, 1, validation=1, test=1, size=SIZES[request.param], percent=10, channels=2
    )
    assert all(len(case["image"]) == 2 for case in content["cases"])
    options = [*tiny, "--in_channels", "2"]
    where = places(folder / "data", folder)
    runner.run([*TRAIN, *where, *options, *steps, "--percent", "10"], bundle).check()
    return Run(bundle, folder / "data", folder, options)


@pytest.fixture(scope="module")
def sources(run: Run) -> dict[str, Path]:
    """One test image in two files, and the same in one file; with the channels exchanged; without the second."""
    first, second = sorted((run.data / "images").iterdir())[-2:]
    images = [nib.nifti1.load(path) for path in (first, second)]
    case = first.name.removesuffix("_0000.nii.gz")
    folders = {name: run.folder / name for name in ("files", "one", "exchanged", "missing")}
    for folder in folders.values():
        folder.mkdir()
    for path in (first, second):
        shutil.copy(path, folders["files"])
    shutil.copy(second, folders["missing"])
    for name, both in (("one", images), ("exchanged", images[::-1])):
        values = np.stack([np.asarray(image.dataobj) for image in both], axis=-1)
        nib.Nifti1Image(values, images[0].affine).to_filename(folders[name] / f"{case}.nii.gz")
    return folders


def load(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(nib.nifti1.load(path).dataobj)


def segment(runner: BundleRunner, run: Run, source: Path, output: Path, *words: str) -> Result:
    """The verb; that the model takes two channels is in its model.json."""
    settings = [
        f"{key.removeprefix('--')}={value.title()}"
        for key, value in zip(run.options[:-2:2], run.options[1:-2:2], strict=True)
    ]
    settings = [word for word in settings if not word.startswith("network_def::width")]
    model = ["--bundle", run.bundle.name, "--model", str(run.folder / "models"), "--set", *settings]
    return runner.run_tool(["segment", str(source), str(output), *model, *words])


def test_the_network_has_two_channels_and_the_model_says_so(run: Run) -> None:
    about = json.loads((run.folder / "models" / "model.json").read_text())
    assert about["inference"]["in_channels"] == 2
    weights = load_tensors(run.folder / "models" / "model.pt")
    assert next(value for value in weights.values() if value.ndim > 3).shape[1] == 2


def test_it_is_scored_on_its_test_set(run: Run, runner: BundleRunner) -> None:
    where = places(run.data, run.folder)
    runner.run([*EVALUATE, *where, *run.options, "--percent", "10", "--evaluate_on", "test"], run.bundle).check()
    rows = read_table(run.folder / "test" / "scores_native_mm.csv")
    assert {row["case"] for row in rows} == {path.name.removesuffix(".nii.gz") for path in labels_of_test(run)}


def labels_of_test(run: Run) -> list[Path]:
    (patient,) = json.loads((run.data / "split.json").read_text())["test"]
    return sorted((run.data / "labels").glob(f"{patient}*"))


def test_files_and_one_file_give_one_label_map_by_inference_and_by_segment(
    run: Run, sources: dict[str, Path], runner: BundleRunner, tmp_path: Path
) -> None:
    maps, sure = {}, {}
    for name in ("files", "one", "exchanged"):
        segment(runner, run, sources[name], tmp_path / name, "--probabilities").check()
        (folder,) = (path for path in (tmp_path / name).iterdir() if path.is_dir())
        assert f"{folder.name}.nii.gz" == next(sources["one"].iterdir()).name
        maps[name], sure[name] = (load(folder / f"{what}.nii.gz") for what in ("labels", "probabilities"))
    np.testing.assert_array_equal(sure["files"], sure["one"])
    assert (sure["files"] != sure["exchanged"]).any()  # each channel goes where it belongs
    for name in ("files", "one"):
        where = ["--dataset_dir", str(sources[name]), "--ckpt_dir", str(run.folder / "models")]
        runner.run([*INFER, *where, *run.options, "--output_dir", str(tmp_path / f"{name}_bundle")], run.bundle).check()
        (path,) = (tmp_path / f"{name}_bundle").iterdir()
        assert path.name == f"{folder.name}_seg.nii.gz"
        np.testing.assert_array_equal(load(path), maps[name])


def test_a_missing_channel_is_told_in_one_line(
    run: Run, sources: dict[str, Path], runner: BundleRunner, tmp_path: Path
) -> None:
    done = segment(runner, run, sources["missing"], tmp_path / "out")
    assert done.code == 2
    assert "expected _0000, _0001 of every case (`in_channels`), found _0001 of " in done.error
    assert done.error.count("error: ") == 1
    assert not (tmp_path / "out").exists()


def test_a_single_channel_is_refused_with_what_to_do(
    run: Run, sources: dict[str, Path], runner: BundleRunner, tmp_path: Path
) -> None:
    shutil.copy(next(sources["missing"].iterdir()), tmp_path / "scan.nii.gz")
    done = segment(runner, run, tmp_path / "scan.nii.gz", tmp_path / "out")
    assert done.code == 1
    (line,) = done.error.splitlines()[-1:]
    assert line.startswith(f"failed: scan: {tmp_path / 'scan.nii.gz'}: expected 2 channels (`in_channels`)")
    assert line.endswith("; name the files CASE_0000, CASE_0001 and so on, or list them")
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


def test_a_package_says_how_many_channels_its_model_takes(run: Run, runner: BundleRunner, tmp_path: Path) -> None:
    words = [run.bundle.name, "--models", str(run.folder), "--output", str(tmp_path)]
    runner.run_tool(["package", *words]).check()
    configs = tmp_path / run.bundle.name / "configs"
    image = json.loads((configs / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == 2
    assert image["channel_def"] == {"0": "channel 0", "1": "channel 1"}
    assert all(
        json.loads((configs / f"{name}.json").read_text())["in_channels"] == 2 for name in ("train", "inference")
    )


def test_an_app_of_dicom_series_is_refused_when_it_is_made(run: Run, runner: BundleRunner, tmp_path: Path) -> None:
    words = ["--bundle", run.bundle.name, "--models", str(run.folder), "--output", str(tmp_path / "apps")]
    done = runner.run_tool(["deploy", *words])
    assert done.code == 2
    assert done.error.splitlines()[-1].endswith(
        "expected a model of one channel, found 2; an app segments DICOM series, which have one: use "
        "`python -m tools segment` with NIfTI files"
    )
    assert not list((tmp_path / "apps").glob("*"))
