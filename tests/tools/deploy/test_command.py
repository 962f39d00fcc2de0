"""The folder of an app, which needs nothing but itself and its requirements, and how a run of it ends."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from scripts.checkpoints import load_tensors
from scripts.errors import UserError
from tests.bundle_commands import ACDC, SYNAPSE
from tests.test_house import imported
from tools.__main__ import main
from tools.common.torchscript import plain_settings, read_script
from tools.deploy.app.outcome import Outcome

ROOT = ACDC.parents[1]
OTHER_NAMES = {"pytorch_ignite": "ignite", "scikit_image": "skimage", "pyyaml": "yaml"}
OPTIONAL = {"backends.py": {"openvino"}}  # what a user may ask for, and install for that
Deploy = Callable[..., tuple[int, str]]


@pytest.fixture
def deploy(verb: Callable[..., tuple[int, str]]) -> Deploy:
    """Runs the verb: the exit code, and what it printed, stderr after an error."""
    return partial(verb, "deploy")


@pytest.fixture(scope="module")
def app(synapse_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CT bundle's app with a tiny model; a test must not write into it."""
    folder = tmp_path_factory.mktemp("apps")
    words = ["--models", str(synapse_run[0]), "--output", str(folder)]
    assert main(["deploy", "--bundle", "dca_synapse", *words]) == 0
    return folder / "dca_synapse_app"


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_folder_is_laid_out_as_monai_deploy_wants_it(app: Path) -> None:
    files = files_in(app)
    assert {name.split("/")[0] for name in files} == {"app", "app.yaml", "models", "SHA256SUMS"}
    assert {name for name in files if name.startswith("models/")} == {"models/dca_synapse/model.ts"}
    bundle = "app/bundle/dca_synapse/"
    of_bundle = {name.removeprefix(bundle) for name in files if name.startswith(bundle)}
    assert {name for name in of_bundle if not name.startswith(("scripts/", "docs/"))} == {
        "LICENSE",
        *(f"configs/{name}.json" for name in ("inference", "metadata", "segments")),
    }
    assert (app / "app" / "requirements.txt").read_bytes() == (ROOT / "requirements-deploy.txt").read_bytes()
    settings = yaml.safe_load((app / "app.yaml").read_text())
    metadata = json.loads((SYNAPSE / "configs" / "metadata.json").read_text())
    assert settings["application"]["title"] == metadata["name"]
    assert settings["application"]["version"] == metadata["version"]
    assert settings["resources"]["cpu"] >= 1


def test_list_of_hashes_covers_every_file(app: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=app, check=True)
    listed = {line.split("  ", 1)[1] for line in (app / "SHA256SUMS").read_text().splitlines()}
    assert listed == {name for name in files_in(app) if "__pycache__" not in name} - {"SHA256SUMS"}


def test_no_file_names_a_place_on_this_machine(app: Path, synapse_run: tuple[Path, str]) -> None:
    for path in (app / name for name in files_in(app)):
        content = path.read_bytes()
        assert str(ROOT).encode() not in content, path
        assert str(synapse_run[0]).encode() not in content, path


def test_code_imports_nothing_that_the_folder_and_its_requirements_lack(app: Path) -> None:
    code = app / "app"
    lines = (code / "requirements.txt").read_text().splitlines()
    packages = {line.split("==")[0].lower().replace("-", "_") for line in lines}
    packages |= {name for package, name in OTHER_NAMES.items() if package in packages}
    roots = {"tools": code, "scripts": code / "bundle" / "dca_synapse"}
    for path in code.rglob("*.py"):
        root = roots["scripts"] if path.is_relative_to(roots["scripts"]) else code
        package = ".".join(path.relative_to(root).parts[:-1])
        for module in {module for node in ast.walk(ast.parse(path.read_text())) for module in imported(node, package)}:
            top = module.split(".")[0]
            if top in roots:
                place = roots[top].joinpath(*module.split("."))
                there = place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
            else:
                there = top in packages | sys.stdlib_module_names | OPTIONAL.get(path.name, set())
            assert there, f"{path.relative_to(app)}: {module}"


def test_model_holds_the_weights_and_the_settings_of_the_bundle(app: Path, synapse_run: tuple[Path, str]) -> None:
    settings, state = read_script(app / "models" / "dca_synapse" / "model.ts")
    weights = load_tensors(synapse_run[0] / "models" / "model.pt")
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weights[name]) for name in weights)
    own = app / "app" / "bundle" / "dca_synapse" / "configs" / "inference.json"
    assert settings == plain_settings(json.loads(own.read_text()))
    assert settings["patch_size"] == [16, 16, 16]  # the model's, not the bundle's default


def test_file_that_is_no_torchscript_is_named(tmp_path: Path) -> None:
    for name in ("none.ts", "text.ts"):
        (tmp_path / "text.ts").write_text("no model")
        with pytest.raises(UserError, match=rf"{name}: expected a TorchScript module"):
            read_script(tmp_path / name)


def test_unchanged_app_is_replaced_and_a_changed_one_is_not(
    app: Path, synapse_run: tuple[Path, str], deploy: Deploy, output: Path
) -> None:
    shutil.copytree(app, output / app.name)
    words = ("--bundle", "dca_synapse", "--models", synapse_run[0])
    assert deploy(*words)[0] == 0
    (output / app.name / "app" / "mine.py").write_text("")
    code, message = deploy(*words)
    assert code == 2
    assert "found 1 new, changed or missing files (first: app/mine.py)" in message
    assert (output / app.name / "app" / "mine.py").exists()


@pytest.mark.parametrize(
    ("bundle", "message"),
    [("dca_synaps", "expected one of dca_acdc, dca_amos, dca_synapse"), ("dca_acdc", "neither in")],
)
def test_mistake_is_one_line(bundle: str, message: str, deploy: Deploy, output: Path, tmp_path: Path) -> None:
    code, printed = deploy("--bundle", bundle, "--models", tmp_path)
    assert code == 2
    (line,) = printed.splitlines()
    assert message in line
    assert not output.exists()


def test_exit_code_tells_all_some_and_none() -> None:
    outcome = Outcome()
    assert outcome.exit_code == 2
    outcome.fail("series 1", UserError("series 1: expected this, found that"))
    assert outcome.exit_code == 2
    outcome.finished.append("case")
    assert outcome.exit_code == 1
    outcome.fail("series 2", ZeroDivisionError("division by zero"))
    assert outcome.failures == ["series 1: expected this, found that", "series 2: ZeroDivisionError: division by zero"]
    assert Outcome(finished=["case"]).exit_code == 0
