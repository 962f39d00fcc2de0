"""The folder of an app: all that it needs to run where this project is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from scripts.errors import UserError
from scripts.files import read_json

from ..common.scratch import scratch_folder
from ..common.sums import expect_replaceable, write_sums
from ..package.command import copy_bundle, expect_no_machine_paths, models_folder
from ..package.model import add_model, export_script

TOOLS = Path(__file__).resolve().parents[1]
REQUIREMENTS = TOOLS.parent / "requirements-deploy.txt"
# What of this project runs in the app, named, so that nothing else travels along.
MODULES = (
    *("__init__.py", "dicom/*.py"),
    *("segment/__init__.py", "segment/cases.py", "segment/disagreement.py", "segment/options.py"),
    *("segment/preparing.py", "segment/results.py", "segment/running.py", "segment/segmenter.py"),
    *("common/__init__.py", "common/config.py", "common/findings.py", "common/limits.py", "common/merging.py"),
    "common/paths.py",
    *("common/torchscript.py", "common/trained.py"),
    *("deploy/__init__.py", "deploy/app/*.py"),
)
OF_BUNDLE = ("LICENSE", "configs/inference.json", "configs/metadata.json", "configs/segments.json", "docs", "scripts")
MAIN = '''"""Segments DICOM series with {name}: python app -i INPUT -o OUTPUT. Written by `python -m tools deploy`."""

import sys
from pathlib import Path

APP = Path(__file__).resolve().parent
BUNDLE = APP / "bundle" / "{name}"
sys.path[:0] = [str(APP), str(BUNDLE)]

from tools.deploy.app.main import main  # noqa: E402

sys.exit(main(BUNDLE, APP.parent / "models"))
'''


def write_app(bundle: Path, output: Path, models: Path | None = None) -> str:
    """Write OUTPUT/NAME_app, whole or not at all.

    Args:
        bundle: its folder in the checkout.
        output: folder for the app's folder.
        models: folder of model.pt, or of a run with models/model.pt; None takes the bundle's own.

    Returns:
        Lines that say what was written.

    Raises:
        UserError: no model, one that does not fit the bundle or takes several channels, or a target that is not an app
            to replace.
    """
    folder = output / f"{bundle.name}_app"
    expect_replaceable(folder, "app")
    source = models_folder(bundle, models)
    if source is None:
        raise UserError(
            f"{bundle / 'models'}: expected a trained model (model.pt), found none; train first, or name its folder "
            "with --models"
        )
    with scratch_folder(folder) as scratch:
        staged, app = scratch / bundle.name, scratch / folder.name
        copy_bundle(bundle, staged)
        model = add_model(source, staged)
        channels = read_json(staged / "configs" / "inference.json", "bundle config").get("in_channels", 1)
        if channels != 1:
            raise UserError(
                f"{source}: expected a model of one channel, found {channels}; an app segments DICOM series, which "
                "have one: use `python -m tools segment` with NIfTI files"
            )
        expect_no_machine_paths(staged, bundle)
        if not (staged / "models" / "model.ts").exists():
            export_script(staged)
        _assemble(staged, app)
        files = write_sums(app)
        if folder.exists():
            folder.rename(scratch / "replaced")
        app.rename(folder)
    return f"{folder}: {len(files)} files\n  {model}\n  python {folder / 'app'} -i DICOM_FOLDER -o RESULTS"


def _assemble(staged: Path, app: Path) -> None:
    """Lay out the app of a packaged bundle that has model.ts."""
    code, own = app / "app", app / "app" / "bundle" / staged.name
    for name in OF_BUNDLE:
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).rename(own / name)
    for pattern in MODULES:
        for file in TOOLS.glob(pattern):
            target = code / "tools" / file.relative_to(TOOLS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    (code / "__main__.py").write_text(MAIN.format(name=staged.name), encoding="utf-8")
    shutil.copyfile(REQUIREMENTS, code / "requirements.txt")
    # MONAI Deploy wants each model in a folder of its own, and nothing beside it.
    script = app / "models" / staged.name / "model.ts"
    script.parent.mkdir(parents=True)
    (staged / "models" / "model.ts").rename(script)
    metadata = read_json(own / "configs" / "metadata.json", "bundle's description")
    (app / "app.yaml").write_text(yaml.safe_dump(_settings(metadata), sort_keys=False), encoding="utf-8")


def _settings(metadata: dict[str, Any]) -> dict[str, Any]:
    """What `monai-deploy package` asks of an app: its title, and what it needs at least to run."""
    return {
        "application": {
            "title": metadata["name"],
            "version": metadata["version"],
            "input-formats": ["file"],
            "output-formats": ["file"],
        },
        "resources": {"cpu": 2, "gpu": 0, "memory": "8Gi"},
    }
