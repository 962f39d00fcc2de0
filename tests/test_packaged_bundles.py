"""Packages at work: fetched by MONAI's own command, away from the checkout, all of them in one process."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import zipfile
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.checkpoints import load_tensors
from scripts.files import sha256
from tests import torchscript_app
from tests.bundle_commands import INFER, places
from tests.bundle_runner import BundleRunner
from tests.packages import Package, read_array, run_label_app
from tools.__main__ import main

EXACT = ["--amp", "false"]  # as MONAI Label infers
PLAIN = Path("configs") / "plain" / "inference.json"
NAMES = ("dca_acdc", "dca_synapse", "dca_amos")
Exports = dict[str, Path]
MACHINE_PATH = re.compile(rb"/(?:work|home|root|tmp|usr|opt)/[\w.]+")


def holds_machine_paths(archive: Path) -> bool:
    """Whether any file in a zip names a folder of this machine."""
    with zipfile.ZipFile(archive) as files:
        return any(MACHINE_PATH.search(files.read(name)) for name in files.namelist())


def config(package: Package, name: str) -> list[str]:
    """Options that run a config of the package from anywhere."""
    return ["--config_file", str(package.folder / "configs" / f"{name}.json"), "--bundle_root", str(package.folder)]


@pytest.fixture(scope="module")
def scripts(runner: BundleRunner, packages: dict[str, Package], tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The models of each package with model.ts, made by MONAI's own command."""
    folders = {}
    for name, package in packages.items():
        folders[name] = shutil.copytree(package.models, tmp_path_factory.mktemp("exported") / "models")
        # The command resolves the network before anything puts the bundle on the path: it has to start in the package.
        files = ["--filepath", str(folders[name] / "model.ts"), "--ckpt_file", "models/model.pt"]
        files += ["--meta_file", "configs/metadata.json", "--config_file", "configs/plain/inference.json"]
        runner.run(["ckpt_export", "network_def", *files], package.folder).check()
    return folders


@pytest.fixture(scope="module")
def exported(scripts: Exports) -> Path:
    """The models of dca_acdc with model.ts."""
    return scripts["dca_acdc"]


@pytest.fixture(scope="module")
def predictions(
    runner: BundleRunner, packages: dict[str, Package], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """What each package predicts with no option but where files are, by MONAI's runner, from an unrelated folder."""
    folder = tmp_path_factory.mktemp("predictions")
    for name, package in packages.items():
        where = ["--dataset_dir", str(package.image), "--output_dir", str(folder / name)]
        runner.run(["run", "inference", *config(package, "inference"), *where, *EXACT], folder).check()
    return {name: next((folder / name).iterdir()) for name in packages}


@pytest.mark.parametrize("name", NAMES)
def test_a_package_predicts_bit_for_bit_what_the_checkout_does(
    runner: BundleRunner, packages: dict[str, Package], predictions: dict[str, Path], tmp_path: Path, name: str
) -> None:
    package = packages[name]
    where = ["--dataset_dir", str(package.image), "--output_dir", str(tmp_path), "--ckpt_dir", str(package.models)]
    runner.run([*INFER, *where, *package.options], package.source).check()
    ours, theirs = (nib.nifti1.load(path) for path in (next(tmp_path.iterdir()), predictions[name]))
    assert np.array_equal(ours.affine, theirs.affine)
    assert len(np.unique(ours.dataobj)) > 1
    assert np.array_equal(ours.dataobj, theirs.dataobj)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_trains_a_step_from_an_unrelated_folder(
    runner: BundleRunner,
    packages: dict[str, Package],
    heart_phantom: Path,
    abdomen_phantom: Path,
    tmp_path: Path,
    name: str,
) -> None:
    package = packages[name]
    where = places(heart_phantom if name == "dca_acdc" else abdomen_phantom, tmp_path / "run")
    options = ["--method", "supervised", "--percent", "50", "--steps", "1", "--val_steps", "1", *EXACT]
    runner.run(["run", "training", *config(package, "train"), *where, *options], tmp_path).check()
    trained, packaged = (load_tensors(f / "model.pt") for f in (tmp_path / "run" / "models", package.models))
    if name != "dca_synapse":  # trained there with dca, here with labels only
        assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in packaged.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_ts_segments_as_its_package_does_where_no_code_of_the_bundle_is(
    runner: BundleRunner,
    packages: dict[str, Package],
    scripts: Exports,
    predictions: dict[str, Path],
    tmp_path: Path,
    name: str,
) -> None:
    settings = json.dumps({"output_dir": str(tmp_path / "out")})
    # Only the bundle's code finds the slices of a scan that is stored along other axes.
    nib.as_closest_canonical(nib.nifti1.load(packages[name].image)).to_filename(image := tmp_path / "image.nii.gz")
    arguments = [str(scripts[name] / "model.ts"), str(image), settings]
    runner.run_file(Path(torchscript_app.__file__), arguments, tmp_path).check()
    theirs = nib.nifti1.load(next((tmp_path / "out").iterdir()))
    ours = nib.as_closest_canonical(nib.nifti1.load(predictions[name]))
    assert np.allclose(ours.affine, theirs.affine, atol=1e-4)
    assert ours.get_data_dtype() == theirs.get_data_dtype() == np.uint8
    found, expected = (np.asarray(labels.dataobj) for labels in (theirs, ours))
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() > 0.9999  # MONAI's inverse rounds otherwise


def test_all_bundles_infer_in_one_process_in_every_order(
    runner: BundleRunner, packages: dict[str, Package], predictions: dict[str, Path], tmp_path: Path
) -> None:
    expected = {name: np.asarray(nib.nifti1.load(path).dataobj) for name, path in predictions.items()}
    jobs = []
    orders = list(itertools.permutations(packages))
    for number, order in enumerate(orders):
        for name in order:
            files = {"image": str(packages[name].image), "output": str(tmp_path / f"{number}_{name}.npy")}
            jobs.append({"bundle": str(packages[name].folder)} | files)
    run_label_app(runner, jobs, tmp_path)
    for number, order in enumerate(orders):
        for name in order:
            assert np.array_equal(read_array(tmp_path / f"{number}_{name}.npy"), expected[name]), (order, name)


@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # that a config is code
def test_monai_loads_the_network_of_a_package(packages: dict[str, Package]) -> None:
    package = packages["dca_acdc"]
    network = monai.bundle.load(
        package.name,
        bundle_dir=package.folder.parent,
        workflow_type="inference",
        device="cpu",
        args_file={"bundle_root": str(package.folder)},
    )
    assert type(network).__name__ == "SegmentationNet"  # that of labels only, not the config's default
    state = load_tensors(package.models / "model.pt")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_an_export_travels_in_the_package_without_the_paths_of_the_machine(
    exported: Path, packages: dict[str, Package], tmp_path: Path
) -> None:
    package = packages["dca_acdc"]
    assert holds_machine_paths(exported / "model.ts")
    assert main(["package", package.name, "--models", str(exported), "--output", str(tmp_path / "dist")]) == 0
    packed = tmp_path / "dist" / package.name / "models" / "model.ts"
    assert not holds_machine_paths(packed)
    files = {"inference.json": ""}
    script = torch.jit.load(packed, _extra_files=files)
    assert json.loads(files["inference.json"]) == json.loads((package.folder / PLAIN).read_text())
    weights = load_tensors(package.models / "model.pt")
    assert all(torch.equal(script.state_dict()[key], value) for key, value in weights.items())
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(script.eval()(image), torch.jit.load(exported / "model.ts").eval()(image))


def test_a_packaged_model_ts_has_the_plain_settings_whichever_it_was_exported_with(
    scripts: Exports, packages: dict[str, Package], tmp_path: Path
) -> None:
    package = packages["dca_synapse"]
    models = shutil.copytree(scripts[package.name], tmp_path / "models")
    own = (package.folder / "configs" / "inference.json").read_text()
    with zipfile.ZipFile(scripts[package.name] / "model.ts") as old, zipfile.ZipFile(models / "model.ts", "w") as new:
        for entry in old.infolist():
            is_settings = entry.filename.endswith("/extra/inference.json")
            new.writestr(entry, own if is_settings else old.read(entry))
    assert main(["package", package.name, "--models", str(models), "--output", str(tmp_path / "dist")]) == 0
    files = {"inference.json": ""}
    torch.jit.load(tmp_path / "dist" / package.name / "models" / "model.ts", _extra_files=files)
    found, plain = (json.loads(text) for text in (files["inference.json"], (package.folder / PLAIN).read_text()))
    assert found == plain != json.loads(own)


@pytest.mark.parametrize("what", ["other weights", "other settings"])
def test_an_export_of_another_model_is_refused(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    models = shutil.copytree(exported, tmp_path / "models")
    about = json.loads((models / "model.json").read_text())
    if what == "other weights":
        weights = load_tensors(models / "model.pt")
        torch.save({key: value + 1 for key, value in weights.items()}, models / "model.pt")
        about["sha256"] = sha256(models / "model.pt")
    else:
        about["inference"]["image_size"] = [48, 48]
    (models / "model.json").write_text(json.dumps(about))
    assert main(["package", "dca_acdc", "--models", str(models), "--output", str(tmp_path / "dist")]) == 2
    assert what in capsys.readouterr().err
    assert list((tmp_path / "dist").iterdir()) == []
