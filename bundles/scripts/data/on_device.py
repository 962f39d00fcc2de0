"""Volumes that stay on the device, and batches that are cut out of them there.

A crop, a flip and a turn by 90 degrees only say which voxels come in which order: of a whole batch they are one gather.
What is random is drawn on the host, by the same transforms and with the same seeds as for a `TwoStreamLoader`, which
makes the same batches. Only a few numbers per sample go to the device, and nothing waits for it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.transforms import RandFlipd
from torch.nn.functional import affine_grid, grid_sample

from ..settings import as_flag
from .streams import (
    KEYS,
    LABELLED,
    UNLABELLED,
    Key,
    SampleDataset,
    TwoStreamLoader,
    as_tensor,
    draw_from,
    without_metadata,
)
from .transforms import RandTurnOrRotated, rotation

logger = logging.getLogger(__name__)

FREE_SHARE = 0.5  # of the device's free memory that volumes may take
DTYPES = (torch.float32, torch.float16)  # of images, in the order of choice; values from 0 to 1 lose 2^-12 in float16
View = np.ndarray[Any, np.dtype[np.uint8]]  # that nobody reads: its strides and its start say where voxels lie
FIRST: View = np.zeros(1, np.uint8)  # stands for the first voxel of every volume


def create_loader(
    labelled: SampleDataset,
    unlabelled: SampleDataset | None,
    batch_size: tuple[int, int],
    steps: int,
    seed: int,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    on_device: bool = False,
) -> TwoStreamLoader:
    """The loader of a training: batches from the host, or cut out of volumes on the device.

    Args:
        labelled, unlabelled, batch_size, steps, seed, num_workers: as in `TwoStreamLoader`.
        device: of the training.
        on_device: keep the volumes there, if they fit into half of its free memory.

    Raises:
        UserError: no labelled sample.
    """
    device = torch.device(device)
    arguments = (labelled, unlabelled, batch_size, steps, seed)
    wanted = as_flag("data_on_device", on_device)
    streams = [stream for stream in (labelled, unlabelled) if stream is not None and len(stream)]
    if wanted and (reason := _only_on_the_host(streams)):
        logger.info("training: batches are made on the host: %s", reason)
    elif wanted and (dtype := fitting(streams, device)) is not None:
        return DeviceLoader(*arguments, device=device, dtype=dtype)
    elif wanted:
        logger.info("training: batches are made on the host: the volumes do not fit on the device beside the training")
    return TwoStreamLoader(*arguments, num_workers, pin_memory=device.type == "cuda")


def _only_on_the_host(streams: Sequence[SampleDataset]) -> str:
    """Which transform has no counterpart on a device; "" if all have."""
    for stream in streams:
        transforms = stream.transform.transforms
        for number, one in enumerate(transforms):
            last = number == len(transforms) - 1
            known = (
                hasattr(one, "cropper") or isinstance(one, RandFlipd) or (isinstance(one, RandTurnOrRotated) and last)
            )
            if not known or not {key for key in KEYS if key in stream.volumes[0]} <= set(one.keys):
                return f"{type(one).__name__} is not known there, in its place and with its keys"
    return ""


def fitting(streams: Sequence[SampleDataset], device: torch.device) -> torch.dtype | None:
    """The type of numbers of the images with which all volumes fit on the device; None if none does."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    images = labels = 0
    for stream in streams:
        for volume in range(len(stream.volumes)):  # type: ignore[arg-type]
            item = stream.volumes[volume]
            images += item["image"].numel()
            labels += item["label"].numel() if "label" in item else 0
    for dtype in DTYPES:
        if images * dtype.itemsize + labels <= FREE_SHARE * free:
            return dtype
    return None


class DeviceLoader(TwoStreamLoader):
    """Makes the batches of a `TwoStreamLoader` on a device; its transforms are crops, flips and `RandTurnOrRotated`.

    Args:
        arguments: labelled, unlabelled, batch_size, steps, seed, as in `TwoStreamLoader`.
        device: where the volumes are kept, the labels as uint8.
        dtype: of the images; in float32 the batches are the same bit for bit.

    Raises:
        UserError: no labelled sample.
    """

    def __init__(self, *arguments: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(*arguments)
        labelled, unlabelled = self.streams
        self.labelled = _Kept(labelled, KEYS, device, dtype)
        self.unlabelled = None if unlabelled is None else _Kept(unlabelled, ["image"], device, dtype)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for keys in self.sampler:
            batch = self.labelled.batch([key for key in keys if key[0] == LABELLED])
            if self.unlabelled is not None:
                batch["image_u"] = self.unlabelled.batch([key for key in keys if key[0] == UNLABELLED])["image"]
            yield batch


class _Kept:
    """The volumes of a stream, one after the other in a row of numbers per key."""

    def __init__(self, stream: SampleDataset, keys: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        self.stream, self.device = stream, device
        items = [stream.volumes[volume] for volume in range(len(stream.volumes))]  # type: ignore[arg-type]
        self.shapes = [tuple(item["image"].shape[1:]) for item in items]
        self.others = [{key: value for key, value in item.items() if key not in KEYS} for item in items]
        self.rows, self.starts, self.channels = {}, {}, {}
        for key in keys:
            values = [as_tensor(item[key]).flatten() for item in items]
            starts = np.cumsum([0, *map(len, values)])
            row = torch.empty(starts[-1], dtype=torch.uint8 if key == "label" else dtype, device=device)
            for start, one in zip(starts, values, strict=False):  # the last start is the end
                row[start : start + len(one)] = one
            self.rows[key], self.starts[key], self.channels[key] = row, starts, len(items[0][key])

    def batch(self, keys: Sequence[Key]) -> dict[str, torch.Tensor]:
        """The samples of these keys: float32 [B, C, *spatial] each."""
        volumes = [self.stream.index[index][0] for _, index, _ in keys]
        views, angles = zip(*(self._look(index, seed) for _, index, seed in keys), strict=True)
        # Per sample: the first voxel in its volume, then the steps from channel to channel and along each axis.
        offsets = [view.__array_interface__["data"][0] - FIRST.__array_interface__["data"][0] for view in views]
        steps = [[math.prod(self.shapes[volume]), *view.strides] for volume, view in zip(volumes, views, strict=True)]
        size, batch = list(views[0].shape), {}
        for key, row in self.rows.items():
            table = self._sent(torch.from_numpy(np.column_stack([self.starts[key][volumes] + offsets, steps])))
            batch[key] = row[places(table, [self.channels[key], *size])].float()
        if any(angle is not None for angle in angles):
            turn = self.stream.transform.transforms[-1]
            theta = torch.cat([rotation(angle or 0.0, size) for angle in angles])
            grid = affine_grid(self._sent(theta), [len(keys), 1, *size], align_corners=False)
            rotates = self._sent(torch.tensor([angle is not None for angle in angles])).view(-1, 1, 1, 1)
            for key, mode in turn.key_iterator(batch, turn.mode):
                rotated = grid_sample(batch[key], grid, mode, "border", align_corners=False)
                batch[key] = torch.where(rotates, rotated, batch[key])
        return batch

    def _look(self, index: int, seed: int) -> tuple[View, float | None]:
        """How sample `index`, drawn with this seed, lies in its volume, and the angle by which it is rotated then."""
        volume, position = self.stream.index[index]
        shape, angle = self.shapes[volume], None
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        view = np.lib.stride_tricks.as_strided(FIRST, shape, strides)
        if self.stream.slice_axis is not None:
            view = view[(slice(None),) * self.stream.slice_axis + (position,)]
        draw_from(np.random.RandomState(np.random.PCG64(seed)), self.stream.transform)
        for one in self.stream.transform.transforms:
            if isinstance(one, RandTurnOrRotated):
                one.randomize()
                if one.rotates:
                    angle = one.angle
                else:
                    view = np.rot90(view, one.quarters(view.shape))
                    view = np.flip(view, 0) if one.flips else view
            elif isinstance(one, RandFlipd):
                one.randomize(None)
                view = np.flip(view, cast(Any, one.flipper.spatial_axis)) if one._do_transform else view
            else:
                view = self._cropped(one, view, volume)
        return view, angle

    def _cropped(self, crop: Any, view: View, volume: int) -> View:
        """What the crop leaves of the view; it crops tensors without voxels, and these tell where they begin."""
        empty = torch.empty(1, *view.shape, device="meta")
        with without_metadata():
            found = crop({**self.others[volume], **dict.fromkeys(self.rows, empty)})
        image = (found[0] if isinstance(found, list) else found)["image"][0]
        first = np.unravel_index(image.storage_offset(), view.shape)
        return view[tuple(slice(start, start + size) for start, size in zip(first, image.shape, strict=True))]

    def _sent(self, values: torch.Tensor) -> torch.Tensor:
        """The values on the device, without waiting for their arrival."""
        values = values.pin_memory() if self.device.type == "cuda" else values
        return values.to(self.device, non_blocking=True)


def places(table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Indices [B, *size] of what begins at table[:, 0] and goes on by table[:, 1 + axis] along each axis of `size`."""
    index = table[:, 0].view(-1, *[1] * len(size))
    for axis, voxels in enumerate(size):
        along = torch.arange(voxels, device=table.device).view(-1, *[1] * (len(size) - 1 - axis))
        index = index + along * table[:, 1 + axis].view(-1, *[1] * len(size))
    return index
