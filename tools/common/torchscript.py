"""What is in a model.ts that MONAI's `ckpt_export` made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import UserError, first_line
from scripts.files import read_json, write_json

if TYPE_CHECKING:
    import torch

# The steps around a bundle's network that need the bundle's code, and what MONAI has in their place.
MONAIS: dict[str, list[dict[str, Any]]] = {
    "scripts.inference.native_grid.LabelsOnImageGridd": [
        {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
         "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ],
    "scripts.data.orientation.OrientSlicesd": [],
}  # fmt: skip


# Where a package keeps them: MONAI's export names settings by their file.
PLAIN = "configs/plain/inference.json"


def write_plain_settings(staged: Path) -> None:
    """Write PLAIN of a packaged bundle from its inference.json; see `plain_settings`."""
    write_json(staged / PLAIN, plain_settings(read_json(staged / "configs" / "inference.json", "bundle's settings")))


def plain_settings(inference: dict[str, Any]) -> dict[str, Any]:
    """A bundle's inference.json for programs without its code: what comes before and after the network is MONAI's.

    The label maps are those of the bundle but for rounding, and need more memory: every class at the image's size.
    Slices have to follow each other along the last axis, as a DICOM series has them.
    """

    def plain(part: dict[str, Any]) -> dict[str, Any]:
        steps = [own for step in part["transforms"] for own in MONAIS.get(step["_target_"], [step])]
        return {**part, "transforms": steps}

    return {**inference, **{key: plain(inference[key]) for key in ("preprocessing", "postprocessing")}}


def read_script(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The inference.json that a model was exported with, empty if it has none, and its weights.

    Raises:
        UserError: no TorchScript module.
    """
    import torch

    files = {"inference.json": ""}
    try:
        state = torch.jit.load(path, "cpu", _extra_files=files).state_dict()
    except (RuntimeError, ValueError) as error:  # ValueError: no such file
        raise UserError(f"{path}: expected a TorchScript module, found: {first_line(error)}; export it again") from None
    return json.loads(files["inference.json"] or "{}"), dict(state)
