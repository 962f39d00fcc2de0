"""The folder that a server works in: MONAI Label's app, and a self-contained copy of the bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json, replacing, write_json
from scripts.settings import expect_one_of

from ..common.bundles import expect_bundle
from ..common.scratch import scratch_folder
from ..common.trained import read_description, trained_settings
from ..package.command import copy_bundle

# MONAI Label looks for a class in this file of the app's folder; it also marks the folder as one of ours.
MAIN = '''"""Written by `python -m tools label`."""

from tools.label.serving.app import BundleApp

__all__ = ["BundleApp"]
'''


def make_workspace(folder: Path, bundle: Path, model: Path | None = None, preset: str | None = None) -> Path:
    """Make the folder, or bring the one of an earlier server up to date; a model that was trained there stays.

    Args:
        folder: of the server; new, empty, or made by an earlier call.
        bundle: the bundle to copy.
        model: weights to serve; None takes those of the folder, else those of the bundle, else none.
        preset: preset of the bundle to train with where there are no weights; those bring their own.

    Returns:
        The bundle's copy.

    Raises:
        UserError: a folder of something else, missing weights, a description of them that is not plain data, or a
            preset that the bundle or the weights do not have.
    """
    expect_bundle(bundle.parent, bundle.name, "metadata.json")
    if folder.exists() and any(folder.iterdir()) and not (folder / "main.py").is_file():
        raise UserError(f"{folder}: expected a new folder or an earlier server's, found other files; choose another")
    if model is not None and not model.is_file():
        raise UserError(f"{model}: expected the weights to serve (model.pt), found no such file; check --model")
    copy = folder / "model" / bundle.name
    earlier = copy.with_name(f".{bundle.name}.earlier")
    if earlier.exists() and not copy.exists():  # an earlier call was killed between its two moves
        earlier.replace(copy)
    sources = (model, copy / "models" / "model.pt", bundle / "models" / "model.pt")
    source = next((path for path in sources if path is not None and path.is_file()), None)
    description = source.with_suffix(".json") if source is not None else None
    about = read_description(description) if description is not None and description.is_file() else {}
    with replacing(folder / "main.py", "the server's app") as partial:  # first, so that a folder begun is known as ours
        partial.write_text(MAIN, encoding="utf-8")
    with scratch_folder(copy) as scratch:
        staged = scratch / bundle.name
        copy_bundle(bundle, staged)
        (staged / "models").mkdir()
        if source is not None:
            shutil.copy2(source, staged / "models" / "model.pt")
        if about:
            write_json(staged / "models" / "model.json", about)
        fit_configs(staged, trained_settings(about), preset)
        shutil.rmtree(earlier, ignore_errors=True)
        if copy.exists():  # aside, not away: it may hold the only copy of a trained model
            copy.replace(earlier)
        staged.replace(copy)
    shutil.rmtree(earlier, ignore_errors=True)
    return copy


def fit_configs(bundle: Path, trained: Mapping[str, Any], preset: str | None) -> None:
    """Make the copied configs those of the weights: what `trained` says of method, preset and network.

    Raises:
        UserError: a preset that the bundle or the weights do not have.
    """
    settings = dict(trained)
    if preset is not None and settings.get("preset") not in (None, preset):
        raise UserError(
            f"--preset: expected {settings['preset']!r}, which the weights were trained with, found {preset!r}"
        )
    settings["preset"] = settings.get("preset") or preset
    for name in ("train", "inference"):
        config = bundle / "configs" / f"{name}.json"
        content = read_json(config, "bundle config")
        if settings["preset"] is not None:
            expect_one_of("--preset", settings["preset"], content["presets"])
        write_json(config, content | {key: value for key, value in settings.items() if value is not None})
