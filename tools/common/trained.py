"""model.json, which says what the model beside it is: data, checked here before it reaches a config or another folder.

Its settings go before those of inference.json, where a string may be an expression and a mapping a component. So only
known settings with plain values pass: those of scripts/schemas/model.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.validation import read_valid

NAMED = {"method": "method", "preset": "preset", "network_options": "network"}  # all that older files have
RESTORE = "restore the file that the training wrote beside its model.pt"


def read_description(path: Path, *needed: str) -> dict[str, Any]:
    """Read model.json; everything that loads a model does it here.

    Args:
        path: the file.
        needed: keys that have to be there.

    Raises:
        UserError: no JSON object, a key that is missing, a setting that is not known, or anything but a plain value.
    """
    about = read_valid(path, "description of a model", "model", RESTORE)
    missing = [key for key in needed if key not in about]
    if missing:
        raise UserError(f"{path}: expected the keys {', '.join(missing)}, found none of them; {RESTORE}")
    return about


def trained_settings(about: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of inference.json with the values that a model was trained with; none from an empty description."""
    return dict(about.get("inference") or {key: about[name] for key, name in NAMED.items() if name in about})


def class_groups(path: Path) -> list[list[int]]:
    """The groups of classes that DCA made for a model, head first.

    Raises:
        UserError: a description that is missing, is not plain data, or has no groups.
    """
    groups: list[list[int]] = read_description(path).get("found", {}).get("grouping", {}).get("groups", [])
    if not groups:
        raise UserError(f"{path}: expected the groups of classes that DCA makes, found none; train with the method dca")
    return groups
