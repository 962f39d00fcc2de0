"""What is in a model.ts that MONAI's `ckpt_export` made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from scripts.errors import UserError, first_line


def read_script(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The inference.json that a model was exported with, empty if it has none, and its weights.

    Raises:
        UserError: no TorchScript module.
    """
    files = {"inference.json": ""}
    try:
        state = torch.jit.load(path, "cpu", _extra_files=files).state_dict()
    except (RuntimeError, ValueError) as error:  # ValueError: no such file
        raise UserError(f"{path}: expected a TorchScript module, found: {first_line(error)}; export it again") from None
    return json.loads(files["inference.json"] or "{}"), dict(state)
