"""The model of a packaged bundle: its weights, what is said of them, and configs that load them without options."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ckpt_export

from scripts.checkpoints import load_predictor, load_tensors
from scripts.errors import UserError
from scripts.files import read_json, sha256, write_json
from scripts.settings import expect_one_of

from ..common.torchscript import PLAIN, read_script, write_plain_settings
from ..common.trained import read_description, trained_settings


def add_model(source: Path, staged: Path) -> str:
    """Add model.pt and, where they are, model.json and model.ts to a bundle; its configs then fit the model.

    Args:
        source: folder of the models.
        staged: the bundle, which holds everything else.

    Returns:
        A line that says which model it is.

    Raises:
        UserError: files that do not belong together, or weights that the bundle's network cannot load.
    """
    weights, description, script = (source / f"model.{suffix}" for suffix in ("pt", "json", "ts"))
    target = staged / "models"
    target.mkdir()
    (target / "model.pt").write_bytes(weights.read_bytes())
    about = read_description(description, "method", "preset", "sha256") if description.is_file() else {}
    if about:
        if about["sha256"] != sha256(weights):
            raise UserError(
                f"{description}: expected the description of {weights.name}, found that of another file (its sha256 "
                "differs); keep the two files of one training together"
            )
        write_json(target / "model.json", _without_folders(about))
        for name in ("train", "inference"):
            _set_defaults(staged / "configs" / f"{name}.json", trained_settings(about), description)
        _set_channels(staged / "configs" / "metadata.json", trained_settings(about).get("in_channels", 1))
    write_plain_settings(staged)
    network = _read_config(staged / "configs" / "inference.json").get_parsed_content("network_def")
    load_predictor(network, weights)
    if script.is_file():
        _add_script(script, staged)
    if not about:
        return f"model {weights}, without a model.json that says how it was trained: the configs keep their defaults"
    return f"model {weights}: method {about['method']}, preset {about['preset']}"


def export_script(staged: Path) -> None:
    """Make model.ts of a packaged bundle that has model.pt."""
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "model.ts"
        ckpt_export(
            "network_def",
            filepath=str(script),
            ckpt_file=str(staged / "models" / "model.pt"),
            meta_file=str(staged / "configs" / "metadata.json"),
            config_file=str(staged / PLAIN),
        )
        _add_script(script, staged)


def _without_folders(value: Any) -> Any:
    """The same content with the names of files for absolute paths, which say nothing on another machine."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _read_config(path: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(path)
    return parser


def _set_defaults(path: Path, trained: Mapping[str, Any], description: Path) -> None:
    """Let a config give each key the value that the model was trained with; one that does anyway stays as it is."""
    config = read_json(path, "bundle config")
    foreign = [key for key in trained if key not in config]
    if foreign:
        found = f"found {', '.join(foreign)}, as of another bundle's"
        raise UserError(f"{description}: expected settings of {path.parents[1].name}, {found}; package its own model")
    expect_one_of(f"{description}: preset", trained.get("preset", config["preset"]), config["presets"])
    changed = False
    for key, value in trained.items():
        parser = ConfigParser(dict(config))
        if parser.get_parsed_content(key) != value:
            config[key] = value
            changed = True
    if changed:
        write_json(path, config)


def _set_channels(path: Path, channels: int) -> None:
    """Let the metadata name as many channels of the image as the model takes."""
    metadata = read_json(path, "bundle's description")
    image = metadata["network_data_format"]["inputs"]["image"]
    if image["num_channels"] != channels:
        image["num_channels"] = channels
        image["channel_def"] = {str(number): f"channel {number}" for number in range(channels)}
        write_json(path, metadata)


def _add_script(script: Path, staged: Path) -> None:
    """Add model.ts, if it is the export of this model with these configs: applications run it without the rest."""
    settings, exported = read_script(script)
    weights = load_tensors(staged / "models" / "model.pt")
    same = exported.keys() == weights.keys() and all(torch.equal(exported[key], weights[key]) for key in weights)
    own, plain = (read_json(staged / name, "bundle's settings") for name in ("configs/inference.json", PLAIN))
    if isinstance(settings.get("data_set"), str):  # exported in the checkout, where it is a file beside the config
        settings["data_set"] = own["data_set"]
    if not same or settings not in (own, plain):
        found = "other settings in its inference.json" if same else "other weights"
        raise UserError(
            f"{script}: expected an export of model.pt with the settings it was trained with, found {found}; "
            "remove it, package without it, and export it from the package"
        )
    # torch keeps beside the code where each line came from: paths of the machine that exported it. Nothing needs them.
    with zipfile.ZipFile(script) as old, zipfile.ZipFile(staged / "models" / "model.ts", "w") as new:
        for entry in old.infolist():
            if entry.filename.endswith("/extra/inference.json"):
                new.writestr(zipfile.ZipInfo(entry.filename), json.dumps(plain))
            elif not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
