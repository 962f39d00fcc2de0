"""Preprocessed volumes for training, in memory or in a store on disk of which a random crop reads only its own part.

The store is a folder with an entry per case, and an entry is a folder of plain .npy files, mapped into memory where
they are read. Its name is the hash of everything that decides its content: the bytes of the case's files, what else
its item says, and the recipe of the transforms (`recipes`). A changed file or setting is thus another entry, and an old
one is never taken for it; runs, methods and processes share what is equal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandomizableTrait
from torch.utils.data import Dataset

from ..errors import UserError, first_line
from ..files import new_folder, sha256, telling, write_json
from .recipes import digest, recipe

logger = logging.getLogger(__name__)

FILES = ("image", "label")  # keys of an item whose values are paths
ABOUT = "entry.json"
Arrays = dict[str, dict[str, Any]]  # of an entry: dtype, shape and, of a list of arrays, their lengths
DAMAGE = (OSError, ValueError, KeyError, TypeError)  # what reading an entry raises that is not as it was written


def keep_volumes(
    data: Sequence[Mapping[str, Any]],
    transform: Compose,
    cache_dir: str | Path | None = None,
    cache_rate: float = 1.0,
    num_workers: int = 1,
) -> Dataset[Any]:
    """The cases after their deterministic transforms, kept in memory or in a store; the values are the same.

    Args:
        data: items {"image": path or one per channel, "label": path where there is one, and other plain values}.
        transform: the deterministic transforms.
        cache_dir: folder of the store, shared with other runs; None keeps the volumes in memory (MONAI's CacheDataset).
        cache_rate: share of the volumes that are kept in memory; the others are computed whenever they are drawn.
        num_workers: threads that preprocess.

    Raises:
        UserError: a store that cannot be made or written, or a case that cannot be read.
    """
    if cache_dir is not None:
        return StoredVolumes(data, transform, cache_dir, num_workers)
    return CacheDataset(data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=False)


class StoredVolumes(Dataset[Any]):
    """Cases out of a store: items of memory-mapped tensors, without metadata; what is not in the store yet is added.

    Each item is the case's own with the arrays that the transforms made of it. Pages of the maps are the system's to
    keep or drop, shared by all processes; only what an item's user touches is read.

    Args:
        data: items {"image": path, "label": path where there is one, and other plain values}.
        transform: the deterministic transforms.
        folder: the store; made if it is missing.
        num_workers: threads that preprocess.

    Raises:
        UserError: a random transform, a transform without a recipe, a case that cannot be read, or a folder that cannot
            be written.
    """

    def __init__(
        self, data: Sequence[Mapping[str, Any]], transform: Compose, folder: str | Path, num_workers: int = 1
    ) -> None:
        random = transform.get_index_of_first(lambda one: isinstance(one, RandomizableTrait))
        if random is not None:
            name = type(transform.transforms[random]).__name__
            raise UserError(
                f"cache_dir: expected deterministic transforms, found {name} among them; move it to the random ones"
            )
        self.data, self.transform, self.folder = list(data), transform, Path(str(folder))
        self.recipe = recipe(transform)
        with ThreadPool(max(1, num_workers)) as pool:
            self.entries = pool.map(self._prepare, self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        folder, arrays = self.entries[index]
        try:
            return {**self.data[index], **read_entry(folder, arrays)}
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder}: expected the stored volume of this run, found: {first_line(error)}; start again, without "
                "removing or changing what a run uses"
            ) from error

    def _prepare(self, item: Mapping[str, Any]) -> tuple[Path, Arrays]:
        """The entry of a case, made if there is none that can be used."""
        about = {"item": _hashed(item), "recipe": self.recipe}
        entry = self.folder / digest(about)
        if entry.exists():
            try:
                arrays = look_at_entry(entry)
            except DAMAGE as error:
                logger.warning("%s: damaged (%s); making it anew", entry, first_line(error))
                _remove(entry)
            else:
                with contextlib.suppress(OSError):  # of somebody else's store
                    os.utime(entry)  # what has not been used for long can be told by its date
                return entry, arrays
        made = self.transform(dict(item), threading=True)
        with telling(entry, "a preprocessed volume"), new_folder(entry) as folder:
            write_entry(folder, made, about)
        return entry, look_at_entry(entry)


def _hashed(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with the hash of each file instead of its path."""
    try:
        return {key: _hash(value) if key in FILES else value for key, value in item.items()}
    except OSError as error:
        found = error.strerror or error
        raise UserError(f"{error.filename}: expected a readable image, found: {found}; restore the file") from None


def _hash(files: Any) -> str | list[str]:
    return [sha256(file) for file in files] if isinstance(files, list) else sha256(files)


def write_entry(folder: Path, item: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write the arrays of an item, each into a .npy file, and what they are into `ABOUT`.

    These are the image, the label and what was derived from them ("label_indices", a list of arrays, becomes one).
    """
    arrays: Arrays = {}
    for key in [key for key in item if key.startswith(FILES)]:
        value = item[key]
        lengths = [len(part) for part in value] if isinstance(value, list) else None
        array = np.concatenate(value) if isinstance(value, list) else np.ascontiguousarray(value)
        with (folder / f"{key}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.data)  # numpy's own writing does not tell a full disk
        arrays[key] = {"dtype": str(array.dtype), "shape": array.shape, "lengths": lengths}
    write_json(folder / ABOUT, {"arrays": arrays, **about}, "what an entry is")


def look_at_entry(entry: Path) -> Arrays:
    """The arrays of an entry, for `read_entry`, after a look at every file's size and header.

    Raises:
        one of `DAMAGE`: a file is missing, truncated, or not what was written.
    """
    arrays: Arrays = json.loads((entry / ABOUT).read_text(encoding="utf-8"))["arrays"]
    for key, expected in arrays.items():
        array = np.lib.format.open_memmap(entry / f"{key}.npy", mode="c")
        if [str(array.dtype), *array.shape] != [expected["dtype"], *expected["shape"]]:
            raise ValueError(f"{key}.npy holds {array.dtype} {array.shape}")
        expected["offset"] = array.offset
    return arrays


def read_entry(entry: Path, arrays: Arrays) -> dict[str, Any]:
    """The arrays of an entry, as tensors mapped into memory; changes to them stay in this process.

    The maps last as long as the tensors: hundreds of cases would use up the files that a process may have open.

    Raises:
        OSError, ValueError: a file is missing or truncated.
    """
    item: dict[str, Any] = {}
    for key, about in arrays.items():
        # Text, since numpy looks at every folder of a Path.
        array = np.memmap(f"{entry}/{key}.npy", about["dtype"], "c", about["offset"], tuple(about["shape"]))
        tensor = torch.from_numpy(array)
        item[key] = list(tensor.split(about["lengths"])) if about["lengths"] else tensor
    return item


def _remove(entry: Path) -> None:
    """Take a damaged entry away at once, so that no process sees half of it."""
    gone = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.partial")
    with contextlib.suppress(FileNotFoundError):  # another process did
        entry.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
