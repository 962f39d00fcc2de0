"""Files of tensors: atomic writing, safe reading, and state dicts that have to fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from .errors import UserError, first_line
from .files import replacing

logger = logging.getLogger(__name__)


def save_atomically(content: Any, path: str | Path) -> None:
    """`torch.save` that leaves either the old file or the complete new one, whatever happens meanwhile.

    Raises:
        UserError: the file cannot be written, for example for lack of space.
    """
    with replacing(path, "a checkpoint") as partial, partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def load_tensors(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and primitives (`weights_only`: nothing in it is executed).

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a checkpoint, found no such file; train first or check the path") from None
    except Exception as error:
        reason = first_line(error, most=120)
        raise UserError(
            f"{path}: expected a checkpoint of tensors, found a damaged or foreign file ({reason})"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a checkpoint (a dictionary of tensors), found a {type(content).__name__}")
    return content


def load_state(module: Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Load a state dict of exactly this network.

    A module with a method `fit_to` is first told the state, whose number of parts it takes over (`DCANet`).

    Raises:
        UserError: names or shapes differ; the message counts them and names the first of each.
    """
    fit_to = getattr(module, "fit_to", None)
    if fit_to is not None:
        try:
            fit_to(state)
        except UserError as error:
            raise UserError(f"{path}: {error}; train again, or restore the file") from None
    own = module.state_dict()
    missing = [k for k in own if k not in state]
    foreign = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or foreign or shapes:
        found = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for what, keys in (("missing", missing), ("unknown", foreign), ("of another shape", shapes))
            if keys
        ]
        raise UserError(
            f"{path}: expected the weights of this {type(module).__name__}, found a checkpoint of another network with "
            f"{', '.join(found)}; use the `method`, `width` and number of classes that it was trained with"
        )
    module.load_state_dict(state)


def load_predictor(network: Module, path: str | Path, device: torch.device | str = "cpu") -> None:
    """Load model.pt, a predictor's plain state dict (also wrapped as {"model": ...}), into `network`.

    Raises:
        UserError: no such file, content other than tensors, or the weights of another network.
    """
    content = load_tensors(path, device)
    load_state(network, content.get("model", content), path)
    logger.info("loaded %s", path)
