"""What a result was made with, as plain values: equal recipes make the same of the same input."""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.metadata
import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader
from monai.transforms import Randomizable

from ..errors import UserError
from ..files import sha256

# What reads and resamples volumes; another version may do it otherwise.
PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "itk")
NAMED = (type, ModuleType, BuiltinFunctionType, np.ufunc)


def recipe(transform: Any) -> dict[str, Any]:
    """All that decides what a transform makes of an item: its settings, the code of its classes, versions of packages.

    Args:
        transform: a transform, or a Compose of several, without random ones.

    Raises:
        UserError: it holds something that cannot be told apart from another of its kind.
    """
    return {"transform": describe(transform), "versions": {name: _version(name) for name in PACKAGES}}


def digest(content: Any) -> str:
    """The SHA-256, in hexadecimal, of plain values as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def describe(value: Any) -> Any:
    """A value as what JSON has: settings as they are, functions by their code, objects by class and attributes.

    What MONAI's transforms keep of a run, such as their random state, is left out. What a function or method calls
    beyond its own file is known by name only.

    Raises:
        UserError: an object that has neither attributes nor a name.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)  # JSON has no nan
    if isinstance(value, bytes | complex | range | slice | Path | np.dtype | torch.dtype | torch.device):
        return [type(value).__name__, str(value)]
    if isinstance(value, Mapping):
        return {str(key): describe(value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [describe(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(one) for one in value), key=json.dumps)
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        array = np.asarray(value)
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    return _describe_code(value) or _describe_object(value)


def _describe_code(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return [_name(type(value)), value.name]
    if isinstance(value, NAMED):
        return _name(value)
    if isinstance(value, MethodType):
        return [describe(value.__func__), describe(value.__self__)]
    if isinstance(value, functools.partial):
        return [describe(value.func), describe(value.args), describe(value.keywords)]
    if isinstance(value, CodeType):
        return [hashlib.sha256(value.co_code).hexdigest(), value.co_names, describe(value.co_consts)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_name(value), *map(describe, (value.__code__, value.__defaults__, value.__kwdefaults__, cells))]
    return None


def _describe_object(value: Any) -> Any:
    if not hasattr(value, "__dict__"):
        raise UserError(
            f"cache_dir: expected transforms of plain settings, found a {_name(type(value))} in them, of which two "
            "cannot be told apart; set `cache_dir` to null"
        )
    state = {key: one for key, one in vars(value).items() if not _left_by_a_run(value, key, one)}
    sources = [_source(cls.__module__) for cls in type(value).__mro__[:-1]]
    return {"class": _name(type(value)), "sources": sorted({one for one in sources if one}), "state": describe(state)}


def _left_by_a_run(value: Any, key: str, one: Any) -> bool:
    """Whether an attribute is no setting but something that MONAI's transforms leave in themselves when they run."""
    random = key == "R" and isinstance(value, Randomizable)
    return random or isinstance(one, threading.local) or (key == "filenames" and isinstance(value, ImageReader))


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', None) or value.__name__}"


@functools.cache
def _source(module: str) -> str | None:
    """The hash of a module's file, so that changed code makes another recipe."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return sha256(file) if file else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
