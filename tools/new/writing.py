"""The folder of a bundle, out of a plan: a built-in bundle's configs with other settings, and what describes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.files import read_json, write_json

from ..common.paths import BUNDLES
from .anatomy import segments
from .planning import Plan

LIKE = {2: "dca_acdc", 3: "dca_synapse"}  # the bundle whose configs are taken
COPIED = ("LICENSE", "configs/evaluate.json", "configs/multi_gpu_train.json", "configs/logging.conf")
SPLIT = "patients.json"
PRESET = "planned"
OF_TRAINING = ("lr", "warmup", "steps", "val_steps", "balanced_crops")  # what inference does not ask for
PUBLISHED_LENGTH = {
    2: {"lr": 0.001, "steps": 30000, "val_steps": 200},
    3: {"lr": 0.01, "warmup": 0, "steps": 17000, "val_steps": 500},
}
VALIDATIONS = 10


@dataclass(frozen=True)
class Content:
    """What a bundle says of its data.

    name: of the bundle.
    modality, channels, classes: of the images.
    datalist, split: contents of these files.
    percent: share of the training patients with labels.
    """

    name: str
    modality: str
    channels: Sequence[str]
    classes: Mapping[int, str]
    datalist: Mapping[str, Any]
    split: Mapping[str, Any]
    percent: float


def write_bundle(folder: Path, content: Content, planned: Plan, steps: int, in_checkout: bool) -> list[str]:
    """Fill an empty folder with a bundle.

    Args:
        folder: to fill.
        content: what it says of its data.
        planned: its settings.
        steps: length of the training.
        in_checkout: whether it stands beside the built-in bundles, whose code it then links to; else it has a copy.

    Returns:
        The classes for which no code is known.
    """
    like = BUNDLES / LIKE[planned.dims]
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(like / name, folder / name)
    if in_checkout:
        (folder / "scripts").symlink_to("../scripts")
    else:
        shutil.copytree(BUNDLES / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    configs = folder / "configs"
    own = planned.preset | {"steps": steps, "val_steps": max(1, steps // VALIDATIONS)}
    presets = {PRESET: own, "published": own | PUBLISHED_LENGTH[planned.dims]}
    shown = {name: {k: v for k, v in one.items() if k not in OF_TRAINING} for name, one in presets.items()}
    for name, chosen in (("train", presets), ("inference", shown)):
        text = (like / "configs" / f"{name}.json").read_text(encoding="utf-8")
        given = json.loads(text)
        changed = {"preset": PRESET, "presets": chosen, **planned.settings}
        if name == "train":
            mirrored = [*range(planned.dims)] if planned.mirrored else []
            strong = given["recipes"]["strong"] | {"mirror_axes": mirrored}
            changed["recipes"] = given["recipes"] | {"strong": strong}
        (configs / f"{name}.json").write_text(
            with_values(text, {k: v for k, v in changed.items() if k in given}), encoding="utf-8"
        )
    names = {str(number): name for number, name in content.classes.items()}
    write_json(configs / "data_set.json", {
        "split": SPLIT, "percent": content.percent, "modalities": [content.modality], "labels": names,
    })  # fmt: skip
    write_json(configs / "metadata.json", _metadata(like, content, planned))
    coded, unknown = segments(content.classes)
    write_json(configs / "segments.json", coded)
    write_json(folder / "splits" / SPLIT, content.split)
    write_json(folder / "data" / "datalist.json", content.datalist)
    (folder / "models").mkdir()
    (folder / "models" / ".gitkeep").touch()
    return unknown


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """A config's text with other values at its top level; all else stays as it is written."""
    decoder = json.JSONDecoder()
    for key, value in values.items():
        start = text.index(f'\n  "{key}": ') + len(f'\n  "{key}": ')
        _, end = decoder.raw_decode(text, start)
        text = text[:start] + _written(value) + text[end:]
    return text


def _written(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    lines = [f"    {json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()]
    return "{\n" + ",\n".join(lines) + "\n  }"


def _metadata(like: Path, content: Content, planned: Plan) -> dict[str, Any]:
    data = read_json(like / "configs" / "metadata.json", "bundle's metadata")
    named = ", ".join(f"{number} {name}" for number, name in content.classes.items())
    count = len(content.classes) + 1
    channels = {str(i): name for i, name in enumerate(content.channels)}
    data |= {
        "version": "0.1.0",
        "changelog": {"0.1.0": "Planned by `python -m tools new`"},
        "name": f"DCA {content.name}",
        "task": f"Semi-supervised segmentation of {', '.join(content.classes.values())}",
        "description": f"A {planned.dims}D network of asymmetric experts (DCA), trained on a few labelled and many "
        f"unlabelled images to segment {', '.join(content.classes.values())}.",
        "authors": "The maker of this bundle",
        "copyright": "The maker of this bundle",
        "data_source": "The maker's own data (not shipped)",
        "image_classes": f"{len(channels)} channel{'s' * (len(channels) > 1)} of {content.modality}",
        "label_classes": f"0 background, {named}",
        "pred_classes": f"{count} channels: 0 background, {named}",
        "references": data["references"][:1],
    }
    image, pred = data["network_data_format"]["inputs"]["image"], data["network_data_format"]["outputs"]["pred"]
    image |= {"modality": content.modality, "num_channels": len(channels), "channel_def": channels}
    image["format"] = "hounsfield" if content.modality == "CT" else "magnitude"
    classes = {0: "background", **content.classes}
    pred |= {"num_channels": count, "channel_def": {str(number): name for number, name in classes.items()}}
    return data
