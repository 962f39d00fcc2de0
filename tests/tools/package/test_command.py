"""What `package` puts into a package, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.files import sha256
from tests.bundle_commands import ACDC, edit_json

ROOT = ACDC.parents[1]
FOR_THE_CHECKOUT = {"configs/data_set.json", "configs/demo.json", "models/.gitkeep"}
Pack = Callable[..., tuple[int, str]]


@pytest.fixture
def pack(verb: Callable[..., tuple[int, str]]) -> Pack:
    """Runs the verb: the exit code, and what it printed, stderr after an error."""
    return partial(verb, "package")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of dca_acdc in a checkout without git, with everything in it that work leaves behind."""
    bundles = tmp_path / "checkout" / "bundles"
    shutil.copytree(ACDC, bundles / "dca_acdc", symlinks=True, ignore=shutil.ignore_patterns("*.pt", "model.*"))
    for shared in ("scripts", "configs"):
        shutil.copytree(ACDC.parent / shared, bundles / shared)
    monkeypatch.setattr("tools.package.command.BUNDLES", bundles)
    left = "runs/dca/resume.pt data/datalist.json predictions/case_seg.nii.gz models/old.pt models/model.pt.partial"
    left += " scripts/__pycache__/engine.cpython-311.pyc configs/mine.json configs/monailabel_train.json .DS_Store"
    for name in left.split():
        file = bundles / "dca_acdc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("left behind")
    return bundles / "dca_acdc"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A run with a model of the supervised method in another size than the config's, untrained."""
    trained = {"method": "supervised", "preset": "published", "network_options": {}, "width": 4, "prediction": None}
    trained |= {"image_size": [256, 256], "interpolation": "trilinear"}
    parser = ConfigParser()
    parser.read_config(ACDC / "configs" / "inference.json")
    parser.update({"bundle_root": str(ACDC), **trained})
    folder = tmp_path / "run" / "models"
    folder.mkdir(parents=True)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    about = {"method": "supervised", "preset": "published", "network": {}, "inference": trained}
    about |= {"split": str(tmp_path / "my_split.json"), "labelled": ["a", str(tmp_path / "b.nii.gz")]}
    (folder / "model.json").write_text(json.dumps(about | {"sha256": sha256(folder / "model.pt")}))
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["dca_acdc", "dca_synapse", "dca_amos"])
def test_a_package_holds_what_the_history_holds(pack: Pack, output: Path, name: str) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"bundles/{name}", "bundles/scripts"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout to know which files are the project's")
    paths = [line.removeprefix("bundles/").removeprefix(f"{name}/") for line in listed.stdout.splitlines()]
    expected = {path for path in paths if path != "scripts"} - FOR_THE_CHECKOUT
    assert pack(name)[0] == 0
    packed = files_in(output / name)
    made = {"SHA256SUMS", "configs/plain/inference.json"}
    assert {file for file in packed if not file.startswith("models/")} == expected | made
    assert not any(path.is_symlink() for path in (output / name).rglob("*"))


def test_nothing_that_work_leaves_behind_is_packed(pack: Pack, output: Path, bundle: Path) -> None:
    code, printed = pack("all")
    assert code == 0
    assert "no model" in printed
    assert not any("left behind" in (output / "dca_acdc" / file).read_text() for file in files_in(output / "dca_acdc"))
    assert not (output / "dca_acdc" / "models").exists()


def test_the_zip_holds_the_folder_under_its_name(pack: Pack, output: Path, bundle: Path, models: Path) -> None:
    assert pack("dca_acdc", "--models", models)[0] == 0
    with zipfile.ZipFile(output / "dca_acdc_v0.1.0.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    folder = output / "dca_acdc"
    assert content == {f"dca_acdc/{file}": (folder / file).read_bytes() for file in files_in(folder)}
    assert {path.name for path in output.iterdir()} == {"dca_acdc", "dca_acdc_v0.1.0.zip"}


def test_the_same_input_gives_the_same_bytes(pack: Pack, output: Path, bundle: Path, models: Path) -> None:
    hashes = []
    for time in (1_000_000_000, 1_500_000_000):
        for path in [*bundle.rglob("*"), *models.iterdir()]:
            os.utime(path, (time, time))
        assert pack("dca_acdc", "--models", models)[0] == 0
        hashes.append(hashlib.sha256((output / "dca_acdc_v0.1.0.zip").read_bytes()).hexdigest())
        shutil.rmtree(output)
    assert hashes[0] == hashes[1]


def test_sha256sum_accepts_the_list_and_it_names_every_file(
    pack: Pack, output: Path, bundle: Path, models: Path
) -> None:
    assert pack("dca_acdc", "--models", models)[0] == 0
    folder = output / "dca_acdc"
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    listed = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert set(listed) == files_in(folder) - {"SHA256SUMS"}


def test_the_configs_fit_the_model_and_what_fits_already_stays(
    pack: Pack, output: Path, bundle: Path, models: Path
) -> None:
    code, printed = pack("dca_acdc", "--models", models.parent)  # the run's folder will do as well
    assert code == 0
    assert "method supervised, preset published" in printed
    for name in ("train", "inference"):
        before, after = (
            json.loads((f / "configs" / f"{name}.json").read_text()) for f in (bundle, output / "dca_acdc")
        )
        changed = {"method": "supervised", "preset": "published", "width": 4, "interpolation": "trilinear"}
        data_set = json.loads((bundle / "configs" / "data_set.json").read_text())
        assert after == before | {"data_set": data_set} | changed  # the preset says 256 x 256 already


def test_a_model_of_the_defaults_leaves_the_configs_as_they_are(
    pack: Pack, output: Path, bundle: Path, models: Path
) -> None:
    parser = ConfigParser()
    parser.read_config(ACDC / "configs" / "inference.json")
    parser.update({"bundle_root": str(ACDC)})
    torch.save(parser.get_parsed_content("network_def").state_dict(), models / "model.pt")
    about = {"method": "dca", "preset": "cpu", "network": {}}  # as it was before the settings were written down
    (models / "model.json").write_text(json.dumps(about | {"sha256": sha256(models / "model.pt")}))
    assert pack("dca_acdc", "--models", models)[0] == 0
    for name in ("train", "inference"):
        packed, own = ((f / "configs" / f"{name}.json").read_text() for f in (output / "dca_acdc", bundle))
        opening, closing = own.split(
            "\"$monai.bundle.ConfigParser.load_config_file(@bundle_root + '/configs/data_set.json')\""
        )
        assert packed.startswith(f'{opening}{{\n    "split": "published.json",')
        assert packed.endswith(f'"left ventricle"\n    }}\n  }}{closing}')


def test_a_package_of_a_package_is_the_same(
    pack: Pack, output: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pack("dca_acdc")[0] == 0
    first = {name: (output / "dca_acdc" / name).read_bytes() for name in files_in(output / "dca_acdc")}
    monkeypatch.setattr("tools.package.command.BUNDLES", output.rename(output.with_name("first")))
    assert pack("dca_acdc")[0] == 0
    assert first == {name: (output / "dca_acdc" / name).read_bytes() for name in files_in(output / "dca_acdc")}


def test_no_folder_of_this_machine_is_named(pack: Pack, output: Path, bundle: Path, models: Path) -> None:
    assert pack("dca_acdc", "--models", models)[0] == 0
    about = json.loads((output / "dca_acdc" / "models" / "model.json").read_text())
    assert (about["split"], about["labelled"]) == ("my_split.json", ["a", "b.nii.gz"])
    edit_json(bundle / "configs" / "train.json", lambda config: config.update(dataset_dir="/" + "data/hospital"))
    before = (output / "dca_acdc_v0.1.0.zip").read_bytes()
    code, error = pack("dca_acdc")
    assert code == 2
    assert all(part in error for part in ("configs/train.json", "hospital", "relative to @bundle_root"))
    assert (output / "dca_acdc_v0.1.0.zip").read_bytes() == before
    assert {path.name for path in output.iterdir()} == {"dca_acdc", "dca_acdc_v0.1.0.zip"}


def test_an_unchanged_package_is_replaced_and_one_with_work_in_it_is_not(
    pack: Pack, output: Path, bundle: Path, models: Path
) -> None:
    assert pack("dca_acdc")[0] == 0
    cache = output / "dca_acdc" / "scripts" / "__pycache__" / "engine.pyc"
    cache.parent.mkdir()
    cache.touch()
    assert pack("dca_acdc", "--models", models)[0] == 0
    weights = output / "dca_acdc" / "models" / "model.pt"
    weights.write_bytes(b"trained in the package")
    code, error = pack("dca_acdc")
    assert code == 2
    assert "found 1 new, changed or missing files (first: models/model.pt)" in error
    assert weights.read_bytes() == b"trained in the package"


@pytest.mark.parametrize("name", ["dca_acdc/notes.txt", "dca_acdc_v0.1.0.zip"])
def test_what_is_no_package_is_not_replaced(pack: Pack, output: Path, bundle: Path, name: str) -> None:
    (output / name).parent.mkdir(parents=True)
    (output / name).write_text("mine")
    code, error = pack("dca_acdc")
    assert code == 2
    assert error.count("\n") == 1
    assert (output / name).read_text() == "mine"


def of_another_network(models: Path) -> None:
    edit_json(models / "model.json", lambda about: about["inference"].update(width=8))


def of_another_training(models: Path) -> None:
    edit_json(models / "model.json", lambda about: about.update(sha256="0" * 64))


def of_another_bundle(models: Path) -> None:
    edit_json(models / "model.json", lambda about: about["inference"].update(spacing=[1, 1, 1]))


def of_an_unknown_preset(models: Path) -> None:
    edit_json(models / "model.json", lambda about: about["inference"].update(preset="quick"))


def not_torchscript(models: Path) -> None:
    (models / "model.ts").write_text("nonsense")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (of_another_network, "a checkpoint of another network"),
        (of_another_training, "expected the description of model.pt, found that of another file"),
        (of_another_bundle, "model.json: expected settings of dca_acdc, found spacing"),
        (of_an_unknown_preset, "preset: expected a known value, found 'quick'"),
        (not_torchscript, "model.ts: expected a TorchScript module"),
        (shutil.rmtree, "expected a folder with model.pt or models/model.pt"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    pack: Pack, output: Path, bundle: Path, models: Path, damage: Callable[[Path], object], found: str
) -> None:
    damage(models)
    code, error = pack("dca_acdc", "--models", models)
    assert code == 2
    assert error.count("\n") == 1
    assert found in error
    assert not output.exists() or not any(output.iterdir())


def test_unknown_names_and_one_model_for_several_bundles_are_refused(pack: Pack, models: Path) -> None:
    assert "dca_amos, dca_synapse, the path of a bundle, or all, found 'dca_liver'" in pack("dca_liver")[1]
    assert "expected one bundle" in pack("all", "--models", models)[1]
