"""What MONAI Label and MONAI Deploy read from a bundle, replayed without them (see label_app.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

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


def infer(runner: BundleRunner, folder: Path, package: Package, **chosen: object) -> tuple[dict[str, object], np.ndarray]:
    """What the model says of itself, and its label map."""
    job = {"bundle": str(package.folder), "image": str(package.image), "output": str(folder / "map.npy")}
    result = run_label_app(runner, [job | {"chosen": chosen}], folder)
    told = next(line for line in result.out.splitlines() if line.startswith("INFO "))
    return json.loads(told.removeprefix("INFO ")), read_array(folder / "map.npy")


def test_label_offers_every_class_by_its_value_and_one_model(
    runner: BundleRunner, package: Package, tmp_path: Path
) -> None:
    about, found = infer(runner, tmp_path, package)
    train = json.loads((package.source / "configs" / "train.json").read_text())
    assert about["labels"] == {name.lower(): int(c) for c, name in train["labels"].items()}
    assert about["models"] == ["model.pt"]
    assert about["version"] == "0.1.0"
    assert about["dimension"] == (2 if package.name == "dca_acdc" else 3)
    assert set(np.unique(found)) <= {0, *about["labels"].values()}


@pytest.mark.parametrize("name", ["dca_synapse", "dca_amos"])
def test_a_setting_that_label_displays_has_an_effect(
    runner: BundleRunner, packages: dict[str, Package], tmp_path: Path, name: str
) -> None:
    about, usual = infer(runner, tmp_path / "usual", packages[name])
    assert about["displayed"] == {"overlap": 0.25}
    chosen = infer(runner, tmp_path / "chosen", packages[name], overlap=0.75)[1]
    assert not np.array_equal(usual, chosen)
    assert (usual == chosen).mean() > 0.5


def train(runner: BundleRunner, package: Package, folder: Path, **settings: object) -> tuple[Path, str]:
    """A training by MONAI Label of a copy of the package: the copy and the log."""
    bundle = shutil.copytree(package.folder, folder / package.name)
    assert not (bundle / "data").exists()
    settings = {"steps": 2, "val_steps": 2, "amp": False} | settings
    job = {"bundle": str(bundle), "labelled": package.cases[:2], "validation": package.cases[2:3], "settings": settings}
    return bundle, run_label_app(runner, [job], folder).out


def test_label_trains_on_labelled_studies_alone_from_the_weights_of_the_bundle(
    runner: BundleRunner, package: Package, tmp_path: Path
) -> None:
    bundle, _ = train(runner, package, tmp_path, lr=0.0, steps=1, val_steps=1)
    before, after = (load_tensors(folder / "models" / "model.pt") for folder in (package.folder, bundle))
    learnt = [key for key in before if key.endswith(".weight")]
    assert learnt
    assert all(torch.equal(before[key], after[key]) for key in learnt)  # restored, and nothing learnt at this rate
    about = json.loads((bundle / "models" / "model.json").read_text())
    assert about["labelled"] == [case["image"] for case in package.cases[:2]]
    assert not (bundle / "data").exists()


def test_what_label_has_trained_infers(runner: BundleRunner, package: Package, tmp_path: Path) -> None:
    bundle, _ = train(runner, package, tmp_path)
    before, after = (load_tensors(folder / "models" / "model.pt") for folder in (package.folder, bundle))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    job = {"bundle": str(bundle), "image": str(package.image), "output": str(tmp_path / "map.npy")}
    run_label_app(runner, [job], tmp_path)


def test_unlabelled_studies_have_a_key_of_their_own_which_may_be_empty(
    runner: BundleRunner, packages: dict[str, Package], tmp_path: Path
) -> None:
    package = packages["dca_acdc"]
    images = [{"image": case["image"]} for case in package.cases[3:5]]
    for name, unlabelled in (("some", images), ("none", [])):
        settings = {"method": "dca", "unlabelled": unlabelled, "train#handlers": curve_handlers(package)}
        bundle, _ = train(runner, package, tmp_path / name, **settings)
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
