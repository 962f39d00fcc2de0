"""Datalists, splits, and the loader that joins the labelled and the unlabelled stream.

Order and augmentation are a pure function of (seed, step): every drawn sample carries a seed of its own. That is why the
number of workers does not change the weights, and why a resumed run sees exactly what the unbroken run would have seen,
with nothing to store but the step.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, MetaTensor, list_data_collate
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, Sampler

from .errors import UserError

LABELLED, UNLABELLED = 0, 1
Key = tuple[int, int, int]  # stream, index of the sample, seed of its augmentation
logger = logging.getLogger(__name__)


def read_json(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a JSON object from a file; `kind` names the file's role in the error.

    Raises:
        UserError: the file is missing or does not hold a JSON object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: expected a {kind}, found no such file; check the path or run `prepare`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a {kind} in JSON, found text that does not parse ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a {kind} (a JSON object), found a {type(content).__name__}")
    return content


def load_split(datalist: str | Path, split: str | Path, percent: float) -> dict[str, list[dict[str, Any]]]:
    """The cases of each role.

    Args:
        datalist: file written by `python -m tools prepare` or `phantom`.
        split: split file: "train", "validation", "test" list patients, "labelled" maps a percentage to the labelled
            patients as published. Any other percentage p takes the first floor(p * n / 100) of the n patients in "train".
        percent: share of the training patients whose labels may be used.

    Returns:
        "labelled", "unlabelled", "validation", "test": lists of {"id", "image", "label"} with absolute paths;
        an unlabelled case has no "label", whether or not a file exists.

    Raises:
        UserError: a missing file, a percentage that gives no patient, patients of the split that the datalist lacks,
            a labelled, validation or test case without a label.
    """
    cases = read_json(datalist, "datalist")
    lists = read_json(split, "split file")
    for key in ("train", "validation"):
        if key not in lists:
            raise UserError(f"{split}: expected a key {key!r} with a list of patients, found {sorted(lists)}")
    train = list(lists["train"])
    labelled = _labelled_patients(train, lists.get("labelled", {}), percent, split)
    roles = {
        "labelled": labelled,
        "unlabelled": [p for p in train if p not in set(labelled)],
        "validation": lists["validation"],
        "test": lists.get("test", []),
    }
    by_patient: dict[str, list[dict[str, Any]]] = {}
    for case in cases["cases"]:
        by_patient.setdefault(case["patient"], []).append(case)
    root = Path(datalist).resolve().parent
    result = {}
    missing: dict[str, list[str]] = {}
    for role, patients in roles.items():
        missing[role] = [p for p in patients if p not in by_patient]
        chosen = [case for p in patients for case in by_patient.get(p, [])]
        result[role] = [_item(case, root, with_label=role != "unlabelled") for case in chosen]
        unlabelled = [item["id"] for item in result[role] if role != "unlabelled" and "label" not in item]
        if unlabelled:
            raise UserError(f"{datalist}: expected a label for every {role} case, found none for {', '.join(unlabelled)}")
    absent = [p for role in ("labelled", "unlabelled", "validation") for p in missing[role]]
    if absent:
        raise UserError(
            f"{datalist}: expected every training and validation patient of {split}, found none of {_shorten(absent)}; "
            "prepare the whole data set, or pass a split file of your own"
        )
    if missing["test"]:
        logger.warning("%s: %d test patients of the split are not in the datalist", datalist, len(missing["test"]))
    logger.info(
        "split %s at %g %%: %s",
        split,
        percent,
        ", ".join(f"{len(items)} {role} cases of {len(roles[role])} patients" for role, items in result.items()),
    )
    return result


def _labelled_patients(
    train: Sequence[str], published: Mapping[str, Sequence[str]], percent: float, split: str | Path
) -> list[str]:
    if not 0 < percent <= 100:
        raise UserError(f"percent: expected a number above 0 and at most 100, found {percent}")
    named = {float(key): list(patients) for key, patients in published.items()}
    if float(percent) in named:
        return named[float(percent)]
    count = math.floor(percent * len(train) / 100 + 1e-9)
    if count == 0:
        raise UserError(
            f"percent: expected at least one labelled patient, found {percent} % of {len(train)} patients in {split}; "
            f"use {100 / len(train):.3g} or more"
        )
    return list(train[:count])


def _item(case: Mapping[str, Any], root: Path, with_label: bool) -> dict[str, Any]:
    item = {"id": case["id"], "image": str(root / case["image"])}
    if with_label and "label" in case:
        item["label"] = str(root / case["label"])
    return item


def _shorten(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class SampleDataset(Dataset):
    """Samples for training, drawn from preprocessed volumes with a seed each.

    Args:
        volumes: a MONAI dataset of {"image": [C, *spatial], "label": [1, *spatial]} after deterministic transforms;
            a CacheDataset makes it fast.
        transform: random transforms of one sample; seeded for every sample, so that they depend on nothing else.
        slice_axis: spatial axis along which a volume falls into 2D samples; None makes each volume one sample (the
            random transforms then crop a patch).
    """

    def __init__(self, volumes: Dataset, transform: Compose, slice_axis: int | None = None) -> None:
        self.volumes = volumes
        self.transform = transform
        self.slice_axis = slice_axis
        count = len(volumes)  # type: ignore[arg-type]
        if slice_axis is None:
            self.index = [(v, 0) for v in range(count)]
        else:
            self.index = [(v, s) for v in range(count) for s in range(self._slices(v, slice_axis))]

    def _slices(self, volume: int, axis: int) -> int:
        return int(self.volumes[volume]["image"].shape[1 + axis])

    def __len__(self) -> int:
        return len(self.index)

    def sample(self, index: int, seed: int) -> dict[str, torch.Tensor]:
        """Sample `index`, augmented by the random state `seed`."""
        volume, position = self.index[index]
        item = {k: v for k, v in self.volumes[volume].items() if k in ("image", "label")}
        if self.slice_axis is not None:
            item = {k: _as_tensor(v).select(1 + self.slice_axis, position) for k, v in item.items()}
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=seed)
        return {k: _as_tensor(v) for k, v in self.transform(item).items()}


def _as_tensor(value: torch.Tensor) -> torch.Tensor:
    return value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)


class TwoStreamSampler(Sampler[list[Key]]):
    """Batches of an epoch: `batch_size[0]` labelled and `batch_size[1]` unlabelled samples each.

    Each stream is an endless sequence of permutations of its samples; batch after batch takes the next piece of it. With
    several processes, a global batch is cut into `world_size` parts, and process `rank` takes the part of that number: an
    epoch then holds 1 / world_size as many steps and, over all processes, the same samples.

    Args:
        lengths: samples in the labelled and in the unlabelled stream; an empty unlabelled stream is left out.
        batch_size: samples of each stream per step and process.
        steps: steps per epoch of one process alone.
        seed: of order and augmentation.
        rank, world_size: of this process.
    """

    def __init__(
        self,
        lengths: tuple[int, int],
        batch_size: tuple[int, int],
        steps: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.steps = max(1, steps // world_size)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration the epoch of this number, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            batch: list[Key] = []
            for stream, (length, size) in enumerate(zip(self.lengths, self.batch_size, strict=True)):
                first = (step * self.world_size + self.rank) * size
                batch += [self._draw(stream, length, first + i) for i in range(size if length else 0)]
            yield batch

    def _draw(self, stream: int, length: int, position: int) -> Key:
        turn, place = divmod(position, length)
        order = np.random.default_rng([self.seed, stream, turn]).permutation(length)
        augmentation = np.random.default_rng([self.seed, stream, position, 1]).integers(2**31)
        return stream, int(order[place]), int(augmentation)


class _Streams(Dataset):
    """Both streams behind one key, so that one pool of workers serves them."""

    def __init__(self, streams: Sequence[SampleDataset | None]) -> None:
        self.streams = streams

    def __getitem__(self, key: Key) -> tuple[int, dict[str, torch.Tensor]]:
        stream, index, seed = key
        dataset = self.streams[stream]
        assert dataset is not None
        return stream, dataset.sample(index, seed)


def _collate(samples: Sequence[tuple[int, dict[str, torch.Tensor]]]) -> dict[str, torch.Tensor]:
    batch = dict(list_data_collate([sample for stream, sample in samples if stream == LABELLED]))
    unlabelled = [sample["image"] for stream, sample in samples if stream == UNLABELLED]
    if unlabelled:
        batch["image_u"] = torch.stack(unlabelled)
    return batch


class TwoStreamLoader:
    """Batches {"image": [B_l, C, *spatial], "label": [B_l, 1, *spatial], "image_u": [B_u, C, *spatial]}.

    "image_u" is missing where there is no unlabelled case. `set_epoch` must be called before each epoch.

    Args:
        labelled, unlabelled: the streams; `unlabelled` may be None or empty.
        batch_size: samples of each stream per step.
        steps: steps per epoch (of one process alone, see `TwoStreamSampler`).
        seed: of order and augmentation.
        num_workers: worker processes; the batches do not depend on it.

    Raises:
        UserError: no labelled sample.
    """

    def __init__(
        self,
        labelled: SampleDataset,
        unlabelled: SampleDataset | None,
        batch_size: tuple[int, int],
        steps: int,
        seed: int,
        num_workers: int = 0,
    ) -> None:
        if len(labelled) == 0:
            raise UserError("labelled cases: expected at least one, found none; check the datalist and `percent`")
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        unlabelled = unlabelled if unlabelled is not None and len(unlabelled) else None
        self.sampler = TwoStreamSampler(
            (len(labelled), len(unlabelled) if unlabelled is not None else 0),
            (int(batch_size[0]), int(batch_size[1])),
            steps,
            seed,
            torch.distributed.get_rank() if distributed else 0,
            torch.distributed.get_world_size() if distributed else 1,
        )
        self.loader = DataLoader(
            _Streams((labelled, unlabelled)),
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration the epoch of this number, counted from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter(self.loader)
