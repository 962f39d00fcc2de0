"""What MONAI's model zoo asks of a bundle, asked of the packages: its files, descriptions, workflows and network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.checkpoints import load_tensors
from tests import zoo_app
from tests.bundle_commands import INFER
from tests.bundle_runner import BundleRunner
from tests.packages import Package

NAMES = ("dca_acdc", "dca_synapse", "dca_amos")
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")  # MONAI's, which its command would download
FILES = {"LICENSE", "configs/logging.conf", *(f"docs/{name}" for name in ("README.md", "data_license.txt"))}
FILES |= {f"configs/{name}.json" for name in ("metadata", "train", "evaluate", "inference", "multi_gpu_train")}
LARGEST = 100 * 2**20  # bytes of a file; a larger one would be named in large_files.yml


@pytest.fixture(params=NAMES)
def package(request: pytest.FixtureRequest, packages: dict[str, Package]) -> Package:
    return packages[request.param]


def read(package: Package, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((package.folder / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def test_a_package_has_the_files_of_a_bundle_and_its_weights(package: Package) -> None:
    files = {path.relative_to(package.folder).as_posix(): path for path in package.folder.rglob("*") if path.is_file()}
    assert files.keys() >= FILES
    assert "Apache License" in files["LICENSE"].read_text(encoding="utf-8")
    assert not any(path.is_symlink() for path in package.folder.rglob("*"))
    assert [name for name, path in files.items() if path.stat().st_size > LARGEST] == []
    listed = yaml.safe_load(files["large_files.yml"].read_text()) if "large_files.yml" in files else []
    assert "models/model.pt" in files or "models/model.pt" in [file["path"] for file in listed]


def test_the_metadata_are_as_monais_schema_says(runner: BundleRunner, package: Package, tmp_path: Path) -> None:
    metadata = read(package, "metadata")
    assert metadata["schema"].endswith(f"/{SCHEMA.name}")
    assert metadata["version"] == max(metadata["changelog"], key=lambda text: tuple(map(int, text.split("."))))
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({key: value for key, value in metadata.items() if key != "task"}))
    codes = []
    for file in (package.folder / "configs" / "metadata.json", broken):
        command = ["verify_metadata", "--meta_file", str(file), "--filepath", str(SCHEMA)]
        codes.append(runner.run(command, tmp_path).code)
    assert codes[0] == 0 != codes[1]


@pytest.mark.parametrize("config", ["train", "inference"])
def test_a_config_has_the_keys_that_applications_set(package: Package, config: str) -> None:
    assert read(package, config).keys() >= {"bundle_root", "device", "dataset_dir", "imports", "initialize", "run"}


def test_the_network_of_a_package_takes_and_gives_what_the_metadata_say(runner: BundleRunner, package: Package) -> None:
    command = ["verify_net_in_out", "network_def", "--meta_file", "configs/metadata.json"]
    result = runner.run([*command, "--config_file", "configs/inference.json"], package.folder).check()
    assert "data shape of network is verified with no error" in result.out


def test_workflows_run_with_the_overrides_of_a_unit_test(
    runner: BundleRunner, package: Package, heart_phantom: Path, abdomen_phantom: Path, tmp_path: Path
) -> None:
    data = heart_phantom if package.name == "dca_acdc" else abdomen_phantom
    where: dict[str, Any] = {"dataset_dir": str(data), "run_dir": str(tmp_path / "run"), "device": "cpu", "amp": False}
    train = {**where, "ckpt_dir": str(tmp_path / "models"), "split_file": str(data / "split.json"), "percent": 50}
    train |= {"steps": 1, "val_steps": 1, "train#trainer#max_epochs": 1}
    images = [case["image"] for case in package.cases[:2]]
    infer = {"datalist": images, "output_dir": str(tmp_path / "out"), "device": "cpu", "amp": False}
    jobs = [
        {"configs": ["train"], "type": "train", "overrides": train},
        {"configs": ["train", "evaluate"], "type": "train", "overrides": train},
        {"configs": ["inference"], "type": "infer", "overrides": infer},
    ]
    (tmp_path / "jobs.json").write_text(json.dumps([{"bundle": str(package.folder), **job} for job in jobs]))
    runner.run_file(Path(zoo_app.__file__), [str(tmp_path / "jobs.json")], tmp_path).check()
    assert load_tensors(tmp_path / "models" / "model.pt").keys() == load_tensors(package.models / "model.pt").keys()
    assert (tmp_path / "run" / "validation" / "summary_native_mm.csv").is_file()
    names = {Path(image).name.replace(".nii.gz", "_seg.nii.gz") for image in images}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_a_list_of_images_is_segmented_like_a_folder_of_them(
    runner: BundleRunner, packages: dict[str, Package], heart_phantom: Path, tmp_path: Path
) -> None:
    package = packages["dca_acdc"]
    images = [case["image"] for case in package.cases[:2]]
    ways = {"paths": str(images), "items": str([{"image": image} for image in images])}
    for way, datalist in ways.items():
        command = [*INFER, "--bundle_root", str(package.folder), "--output_dir", str(tmp_path / way)]
        command[3] = str(package.folder / command[3])
        runner.run([*command, "--datalist", datalist, "--amp", "False"], tmp_path).check()
    whole = [*command[:-1], str(tmp_path / "folder"), "--dataset_dir", str(heart_phantom), "--amp", "False"]
    runner.run(whole, tmp_path).check()
    for image in images:
        name = Path(image).name.replace(".nii.gz", "_seg.nii.gz")
        found = [np.asarray(nib.nifti1.load(tmp_path / way / name).dataobj) for way in (*ways, "folder")]
        assert found[0].any()
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[0], found[2])
    assert sorted(path.name for path in (tmp_path / "paths").iterdir()) == sorted(
        path.name for path in (tmp_path / "items").iterdir()
    )
