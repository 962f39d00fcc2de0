"""model.json, which says what the model beside it is: data, checked here before it reaches a config or another folder.

Its settings go before those of inference.json, where a string may be an expression and a mapping a component. So only
known settings with plain values pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError, first_few
from scripts.files import read_json

NAMED = {"method": "method", "preset": "preset", "network_options": "network"}  # all that older files have
MOST_NESTED = 8  # levels of mappings and lists
# No place for the $, @ and % of MONAI's expressions, references and macros, and none for a path.
NAME = re.compile(r"\w[\w .+-]*")

Kind = tuple[str, Callable[[Any], bool]]  # in words, and whether a value is of it


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1_000_000


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool) or _is_number(value) or _is_name(value)


def _list_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(test, value))


def _are_options(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key.isidentifier() and not key.startswith("_") and (_is_plain(one) or _list_of(_is_plain)(one))
        for key, one in value.items()
    )


def _is_score(value: Any) -> bool:
    return isinstance(value, dict) and "epoch" in value and len(value) > 1 and all(map(_is_number, value.values()))


def _is_found(value: Any) -> bool:
    grouping = value.get("grouping", {}) if isinstance(value, dict) else None
    groups = grouping.get("groups", []) if isinstance(grouping, dict) else None
    return isinstance(groups, list) and all(map(_list_of(_is_size), groups)) and _is_kept(value)


def _is_kept(value: Any, levels: int = MOST_NESTED) -> bool:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return levels > 0 and all(_is_kept(one, levels - 1) for one in inner)
    return not isinstance(value, float) or math.isfinite(value)


A_NAME: Kind = ("a plain name", _is_name)
SIZES: Kind = ("a list of whole numbers above 0", _list_of(_is_size))
NUMBERS: Kind = ("a list of numbers", _list_of(_is_number))
OPTIONS: Kind = ("a mapping of names to plain values or lists of them", _are_options)
# A command line hands the words over: see `scripts.settings.as_flag`.
FLAG: Kind = ("true, false or null", lambda value: isinstance(value, bool) or value in (None, "true", "false"))

# What a training records of itself under "inference": see `about` in train.json.
SETTINGS: dict[str, Kind] = {
    "method": A_NAME,
    "preset": A_NAME,
    "options_preset": A_NAME,
    "network_options": OPTIONS,
    "prediction": ("a plain name or null", lambda value: value is None or _is_name(value)),
    "width": ("a whole number above 0", _is_size),
    "image_size": SIZES,
    "patch_size": SIZES,
    "spacing": NUMBERS,
    "window": NUMBERS,
    "mirror_axes": (
        "a list of axes",
        lambda value: isinstance(value, list) and all(axis in (0, 1, 2) for axis in value),
    ),
    "interpolation": A_NAME,
    "mr_scaling": A_NAME,
    "residual": FLAG,
    "deep_supervision": FLAG,
    "crop_foreground": FLAG,
}
# What else is read of it. Other keys are kept, and never looked at.
FURTHER: dict[str, Kind] = {
    **{name: SETTINGS[key] for key, name in NAMED.items()},
    "inference": ("a mapping", lambda value: isinstance(value, dict)),
    "labelled": ("a list", lambda value: isinstance(value, list) and _is_kept(value)),
    "validation": ("a score and its epoch", _is_score),
    "found": ("a mapping, its groups lists of classes", _is_found),
}
OTHER: Kind = (f"finite numbers, and at most {MOST_NESTED} mappings and lists in one another", _is_kept)
UNKNOWN: Kind = ("no setting of this name", lambda _: False)


def read_description(path: Path, *needed: str) -> dict[str, Any]:
    """Read model.json; everything that loads a model does it here.

    Args:
        path: the file.
        needed: keys that have to be there.

    Raises:
        UserError: no JSON object, a key that is missing, a setting that is not known, or anything but a plain value.
    """
    about = read_json(path, "description of a model")
    inference = about.get("inference", {})
    checked = [(key, value, FURTHER.get(key, OTHER)) for key, value in about.items()]
    if isinstance(inference, dict):
        checked += [(f"inference::{key}", value, SETTINGS.get(key, UNKNOWN)) for key, value in inference.items()]
    wrong = [
        f"{ascii(key)[1:-1][:60]}: {_shown(value)}, not {words}"
        for key, value, (words, test) in checked
        if not test(value)
    ]
    if wrong:
        raise UserError(
            f"{path}: expected plain values of known settings, found {first_few(wrong)}; restore the file that the "
            "training wrote beside its model.pt"
        )
    missing = [key for key in needed if key not in about]
    if missing:
        raise UserError(
            f"{path}: expected the keys {', '.join(missing)}, found none of them; restore the file that the training "
            "wrote beside its model.pt"
        )
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


def _shown(value: Any) -> str:
    """The value as a short part of a message; of one that may be deep, only its type."""
    deep = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value))
    return f"a {type(value).__name__}" if deep else ascii(value)[:60]
