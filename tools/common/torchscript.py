"""What is in a model.ts that MONAI's `ckpt_export` made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import UserError, first_line
from scripts.files import read_json, write_json

if TYPE_CHECKING:
    import torch

# The step of a bundle's postprocessing that needs the bundle's code, and what MONAI has in its place.
OWN = "scripts.inference.native_grid.LabelsOnImageGridd"
MONAIS: list[dict[str, Any]] = [
    {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
     "nearest_interp": False, "to_tensor": True},
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
]  # fmt: skip


# Where a package keeps them: MONAI's export names settings by their file.
PLAIN = "configs/plain/inference.json"


def write_plain_settings(staged: Path) -> None:
    """Write PLAIN of a packaged bundle from its inference.json; see `plain_settings`."""
    write_json(staged / PLAIN, plain_settings(read_json(staged / "configs" / "inference.json", "bundle's settings")))


def plain_settings(inference: dict[str, Any]) -> dict[str, Any]:
    """A bundle's inference.json for programs without its code: what comes before and after the network is MONAI's.

    The label maps are those of the bundle but for rounding, and need more memory: every class at the image's size.
    """
    post = inference["postprocessing"]
    steps = [plain for step in post["transforms"] for plain in (MONAIS if step["_target_"] == OWN else [step])]
    return {**inference, "postprocessing": {**post, "transforms": steps}}


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
