"""The samples of the labelled and of the unlabelled stream, and the loader that joins them.

What is random is a pure function of (seed, step): every drawn sample carries a seed of its own, and every step has one
for dropout and mixing. That is why the number of workers does not change the weights, and why a resumed run sees
exactly what the unbroken run would have seen, with nothing to store but the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, MetaTensor, get_track_meta, list_data_collate, set_track_meta
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, Sampler, default_collate

from ..errors import UserError
from ..settings import as_flag

LABELLED, UNLABELLED = 0, 1
KEYS = ("image", "label")
Key = tuple[int, int, int]  # stream, index of the sample, seed of its augmentation


class SampleDataset(Dataset[Any]):
    """Samples for training, drawn from preprocessed volumes with a seed each.

    Args:
        volumes: a dataset of {"image": [C, *spatial], "label": [1, *spatial]} after deterministic transforms, of any
            types of numbers; one that keeps them makes it fast (`stores.keep_volumes`).
        transform: random transforms of one sample; seeded for every sample, so that they depend on nothing else. They
            see voxels without affine or other metadata, which takes less time and is all that a store has.
        slice_axis: spatial axis along which a volume falls into 2D samples; None makes each volume one sample (the
            random transforms then crop a patch).
        balanced: draw slices of each class equally often, and those without any class as often as those of one. It
            needs labels. Else each slice is drawn equally often, and a class in few slices rarely.
    """

    def __init__(
        self,
        volumes: Dataset[Any],
        transform: Compose,
        slice_axis: int | None = None,
        balanced: bool = False,
    ) -> None:
        self.volumes = volumes
        self.transform = transform
        self.slice_axis = slice_axis
        count = len(volumes)  # type: ignore[arg-type]
        if slice_axis is None:
            self.index = [(v, 0) for v in range(count)]
        else:
            self.index = [(v, s) for v in range(count) for s in range(self._slices(v, slice_axis))]
            if as_flag("balanced_slices", balanced):
                self.index = self._balanced(slice_axis)

    def _slices(self, volume: int, axis: int) -> int:
        return int(self.volumes[volume]["image"].shape[1 + axis])

    def _balanced(self, axis: int) -> list[tuple[int, int]]:
        """The slices of each class, as often as makes them as many as those of the class that is in most of them."""
        of_class: dict[int, list[tuple[int, int]]] = {}
        for volume, position in self.index:
            label = as_tensor(self.volumes[volume]["label"]).select(1 + axis, position)
            for c in [c for c in label.unique().tolist() if c] or [0]:
                of_class.setdefault(int(c), []).append((volume, position))
        most = max(map(len, of_class.values()), default=0)
        return [one for _, slices in sorted(of_class.items()) for one in islice(cycle(slices), most)]

    def __len__(self) -> int:
        return len(self.index)

    def image(self, index: int) -> str:
        """Which image sample `index` is drawn from: its file and slice, as far as they are known."""
        volume, position = self.index[index]
        path = self.volumes.data[volume].get("image") if hasattr(self.volumes, "data") else None
        name = str(path) if isinstance(path, str | Path) else f"volume {volume}"
        return name if self.slice_axis is None else f"{name} (slice {position})"

    def sample(self, index: int, seed: int) -> dict[str, torch.Tensor]:
        """Sample `index`, augmented by the random state `seed`: float32 tensors."""
        volume, position = self.index[index]
        item = dict(self.volumes[volume])
        if self.slice_axis is not None:
            tensors = {k: v for k, v in item.items() if k in KEYS}
            item = {k: as_tensor(v).select(1 + self.slice_axis, position) for k, v in tensors.items()}
        # One state for all transforms: seeding one for each of them takes longer than a turn or a flip.
        draw_from(np.random.RandomState(np.random.PCG64(seed)), self.transform)
        with without_metadata():
            drawn = self.transform(item)
        if isinstance(drawn, list):  # MONAI's crops by class give a list, even of one
            drawn = drawn[0]
        return {k: as_tensor(v).float() for k, v in drawn.items() if k in KEYS}


def draw_from(state: np.random.RandomState, transform: Any) -> None:
    """Let the random transforms in this one, however deep, draw their numbers from `state`, one after the other."""
    if isinstance(transform, Compose):  # its own way gives each of its transforms a new state, seeded from its own
        Randomizable.set_random_state(transform, state=state)
        for one in transform.transforms:
            draw_from(state, one)
    elif isinstance(transform, Randomizable):
        transform.set_random_state(state=state)


def as_tensor(value: torch.Tensor) -> torch.Tensor:
    """The value as a plain tensor."""
    return value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)


@contextlib.contextmanager
def without_metadata() -> Iterator[None]:
    """Let MONAI's transforms pass on plain tensors; the values are the same."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)


class TwoStreamSampler(Sampler[list[Key]]):
    """Batches of an epoch: `batch_size[0]` labelled and `batch_size[1]` unlabelled samples each.

    Each stream is an endless sequence of permutations of its samples; batch after batch takes the next piece of it.
    With several processes, a global batch is cut into `world_size` parts, and process `rank` takes the part of that
    number: an epoch then holds 1 / world_size as many steps and, over all processes, the same samples.

    Args:
        lengths: samples in the labelled and in the unlabelled stream; an empty unlabelled stream is left out.
        batch_size: samples of each stream per step and process.
        steps: steps per epoch of a single process.
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

    def step_seed(self, step: int) -> int:
        """Seed of what is random in training on the batch of this step, counted from 0 over all epochs."""
        key = [self.seed, 0, step * self.world_size + self.rank, 2]
        return int(np.random.default_rng(key).integers(2**63))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> list[Key]:
        """The batch of this step, counted from 0 over all epochs."""
        batch: list[Key] = []
        for stream, (length, size) in enumerate(zip(self.lengths, self.batch_size, strict=True)):
            first = (step * self.world_size + self.rank) * size
            batch += [self._draw(stream, length, first + i) for i in range(size if length else 0)]
        return batch

    def _draw(self, stream: int, length: int, position: int) -> Key:
        turn, place = divmod(position, length)
        order = np.random.default_rng([self.seed, stream, turn]).permutation(length)
        augmentation = np.random.default_rng([self.seed, stream, position, 1]).integers(2**31)
        return stream, int(order[place]), int(augmentation)


class _Streams(Dataset[Any]):
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
        batch["image_u"] = default_collate(unlabelled)
    return batch


class TwoStreamLoader:
    """Batches {"image": [B_l, C, *spatial], "label": [B_l, 1, *spatial], "image_u": [B_u, C, *spatial]}.

    "image_u" is missing where there is no unlabelled case. `set_epoch` must be called before each epoch.

    Args:
        labelled, unlabelled: the streams; `unlabelled` may be None or empty.
        batch_size: samples of each stream per step.
        steps: steps per epoch of a single process; several share them.
        seed: of order and augmentation.
        num_workers: worker processes; the batches do not depend on it.
        pin_memory: put batches where a GPU can fetch them while it works.

    Raises:
        UserError: no labelled sample.

    Example:
        >>> volumes = [{"image": torch.rand(1, 32, 32, 8), "label": torch.zeros(1, 32, 32, 8)}]
        >>> slices = SampleDataset(volumes, Compose([]), slice_axis=2)
        >>> loader = TwoStreamLoader(slices, slices, batch_size=(2, 4), steps=10, seed=0)
        >>> loader.set_epoch(0)
        >>> {key: tuple(values.shape) for key, values in next(iter(loader)).items()}
        {'image': (2, 1, 32, 32), 'label': (2, 1, 32, 32), 'image_u': (4, 1, 32, 32)}
    """

    def __init__(
        self,
        labelled: SampleDataset,
        unlabelled: SampleDataset | None,
        batch_size: tuple[int, int],
        steps: int,
        seed: int,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if len(labelled) == 0:
            raise UserError("labelled cases: expected at least one, found none; check the datalist and `percent`")
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        unlabelled = unlabelled if unlabelled is not None and len(unlabelled) else None
        self.streams = (labelled, unlabelled)
        self.sampler = TwoStreamSampler(
            (len(labelled), len(unlabelled) if unlabelled is not None else 0),
            (int(batch_size[0]), int(batch_size[1])),
            steps,
            seed,
            torch.distributed.get_rank() if distributed else 0,
            torch.distributed.get_world_size() if distributed else 1,
        )
        self.loader = DataLoader(
            _Streams(self.streams),
            batch_sampler=self.sampler,
            collate_fn=_collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
        )

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration the epoch of this number, counted from 0."""
        self.sampler.set_epoch(epoch)

    def step_seed(self, step: int) -> int:
        """Seed of what is random in training on the batch of this step, counted from 0 over all epochs."""
        return self.sampler.step_seed(step)

    def images(self, step: int) -> list[str]:
        """The images in the batch of this step, counted from 0 over all epochs, the labelled ones first."""
        streams = [stream for stream in self.streams if stream is not None]
        return [streams[key[0]].image(key[1]) for key in self.sampler.batch(step)]

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter(self.loader)
