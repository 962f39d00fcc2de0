"""What MONAI Label 0.8.5 and MONAI Deploy 4.0.0 read from a bundle, replayed without them (see label_app.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.checkpoints import load_tensors
from tests.bundle_runner import BundleRunner
from tests.packages import Package, read_array, run_label_app

NAMES = ("dca_acdc", "dca_synapse", "dca_amos")


@pytest.fixture(params=NAMES)
def package(request: pytest.FixtureRequest, packages: dict[str, Package]) -> Package:
    return packages[request.param]


def job(package: Package, bundle: Path, output: Path, **chosen: object) -> dict[str, object]:
    """To infer on the package's image."""
    return {"bundle": str(bundle), "image": str(package.image), "output": str(output), "chosen": chosen}


def test_label_offers_the_classes_the_model_and_settings_that_have_an_effect(
    runner: BundleRunner, package: Package, tmp_path: Path
) -> None:
    outputs = [tmp_path / "usual.npy", tmp_path / "chosen.npy"]
    chosen = {} if package.name == "dca_acdc" else {"overlap": 0.75}
    jobs = [job(package, package.folder, output, **c) for output, c in zip(outputs, ({}, chosen), strict=True)]
    printed = run_label_app(runner, jobs, tmp_path).out.splitlines()
    about = json.loads(next(line for line in printed if line.startswith("INFO ")).removeprefix("INFO "))
    data_set = json.loads((package.source / "configs" / "data_set.json").read_text())
    assert about["labels"] == {name.lower(): int(c) for c, name in data_set["labels"].items()}
    assert about["models"] == ["model.pt"]
    assert about["version"] == "0.1.0"
    assert about["dimension"] == (2 if package.name == "dca_acdc" else 3)
    assert about["displayed"] == dict.fromkeys(chosen, 0.5)
    usual, other = map(read_array, outputs)
    assert set(np.unique(usual)) <= {0, *about["labels"].values()}
    assert np.array_equal(usual, other) != bool(chosen)


def copy_of(package: Package, folder: Path) -> Path:
    """A copy to train in; it has no data set."""
    bundle = shutil.copytree(package.folder, folder / package.name)
    assert not (bundle / "data").exists()
    return bundle


def training(package: Package, bundle: Path, **settings: object) -> dict[str, object]:
    """To train for a moment on the first two cases and validate on the third."""
    settings = {"steps": 1, "val_steps": 1, "amp": False} | settings
    studies = {"labelled": package.cases[:2], "validation": package.cases[2:3]}
    return {"bundle": str(bundle), **studies, "settings": settings}


def test_label_trains_on_labelled_studies_alone_from_the_weights_of_the_bundle_and_infers(
    runner: BundleRunner, package: Package, tmp_path: Path
) -> None:
    bundle = copy_of(package, tmp_path)
    jobs = [training(package, bundle, lr=0.0), job(package, bundle, tmp_path / "map.npy")]
    run_label_app(runner, jobs, tmp_path)
    before, after = (load_tensors(folder / "models" / "model.pt") for folder in (package.folder, bundle))
    learnt = [key for key in before if key.endswith(".weight")]
    assert learnt
    assert all(torch.equal(before[key], after[key]) for key in learnt)  # restored, and nothing learnt at this rate
    assert any(not torch.equal(before[key], after[key]) for key in before)  # statistics: there was a step
    about = json.loads((bundle / "models" / "model.json").read_text())
    assert about["labelled"] == [case["image"] for case in package.cases[:2]]
    assert read_array(tmp_path / "map.npy").shape == read_shape(package.image)


def read_shape(image: Path) -> tuple[int, ...]:
    return tuple(nib.nifti1.load(image).shape)


def test_unlabelled_studies_have_a_key_of_their_own_which_may_be_empty(
    runner: BundleRunner, packages: dict[str, Package], tmp_path: Path
) -> None:
    package = packages["dca_acdc"]
    images = [{"image": case["image"]} for case in package.cases[3:5]]
    for name, unlabelled in (("some", images), ("none", [])):
        settings = {"method": "dca", "unlabelled": unlabelled, "train#handlers": curve_handlers(package)}
        bundle = copy_of(package, tmp_path / name)
        run_label_app(runner, [training(package, bundle, **settings)], tmp_path / name)
        columns = (bundle / "runs" / "dca" / "curves.csv").read_text().splitlines()[0].split(",")
        assert "loss_experts" in columns
        assert ("loss_unlabelled" in columns) == bool(unlabelled)


def curve_handlers(package: Package) -> list[object]:
    """The handlers of training without MONAI Label's own, which would load weights of another method."""
    handlers: list[object] = json.loads((package.folder / "configs" / "train.json").read_text())["train"]["handlers"]
    return handlers


def test_deploy_finds_the_files_and_keys_that_it_reads(package: Package) -> None:
    parser = ConfigParser()
    parser.read_meta(json.loads((package.folder / "configs" / "metadata.json").read_text()))
    parser.read_config([package.folder / "configs" / "inference.json"])
    parser.parse()
    formats = parser["_meta_"]["network_data_format"]
    assert [*formats["inputs"]], [*formats["outputs"]] == (["image"], ["pred"])
    assert {formats["inputs"]["image"]["type"], formats["outputs"]["pred"]["type"]} == {"image"}
    assert parser.get_parsed_content("device").type in ("cpu", "cuda")
    transforms = [parser.get_parsed_content(key).transforms for key in ("preprocessing", "postprocessing")]
    first = [type(part[0]).__name__ for part in transforms]
    assert first == ["LoadImaged", "Activationsd"]  # MONAI Deploy recognises dictionary transforms by the first one
    assert callable(parser.get_parsed_content("inferer"))
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(package.folder / "models" / "model.pt", map_location="cpu"), strict=True)
