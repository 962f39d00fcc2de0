"""Batches that are cut out of volumes on a device are those that the host makes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from monai.transforms import (
    ClassesToIndices,
    Compose,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    RandSpatialCropd,
)

from scripts.data import on_device
from scripts.data.on_device import DeviceLoader, create_loader, fitting
from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.data.transforms import RandTurnOrRotated

CPU = torch.device("cpu")
PATCH = (6, 5, 4)
BOTH = ["image", "label"]


def volumes(count: int, channels: int = 1, labelled: bool = True) -> list[dict[str, Any]]:
    """Volumes of different sizes, every voxel of a value of its own, labels of four classes."""
    torch.manual_seed(count)
    made = []
    for number in range(count):
        size = (9 + number, 8, 7 + 2 * number)
        item: dict[str, Any] = {"image": torch.rand(channels, *size), "id": str(number)}
        if labelled:
            item["label"] = torch.randint(4, (1, *size), dtype=torch.uint8)
            item["label_indices"] = ClassesToIndices(num_classes=4)(item["label"])
        made.append(item)
    return made


def flips(keys: list[str]) -> list[Any]:
    return [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in (0, 1, 2)] + [RandFlipd(keys, prob=0.5)]


BY_CLASSES = RandCropByLabelClassesd(
    BOTH, "label", PATCH, ratios=[0, 1, 1, 1], num_classes=4, num_samples=1, indices_key="label_indices", warn=False
)
ANYWHERE = RandSpatialCropd(BOTH, PATCH, random_size=False)
ANYWHERE_U = RandSpatialCropd(["image"], PATCH, random_size=False)


def patches(crop: Any, channels: int = 1) -> tuple[SampleDataset, SampleDataset]:
    return (
        SampleDataset(volumes(3, channels), Compose([crop, *flips(BOTH)])),
        SampleDataset(volumes(4, channels, labelled=False), Compose([ANYWHERE_U, *flips(["image"])])),
    )


def slices(axis: int = 2, width: int = 8) -> tuple[SampleDataset, SampleDataset]:
    sets = []
    for count, labelled in ((3, True), (2, False)):
        alike = [
            {key: value[..., :8, :width, :] if key in BOTH else value for key, value in item.items()}
            for item in volumes(count, labelled=labelled)
        ]
        move = RandTurnOrRotated(BOTH, 20, ["bilinear", "nearest"], allow_missing_keys=True)
        sets.append(SampleDataset(alike, Compose([move]), slice_axis=axis))
    return sets[0], sets[1]


def both(streams: tuple[SampleDataset, SampleDataset | None], steps: int = 12) -> list[list[dict[str, torch.Tensor]]]:
    """The batches of the second epoch, from the host and from the device."""
    arguments = (*streams, (2, 3), steps, 5)
    found = []
    for loader in (TwoStreamLoader(*arguments), DeviceLoader(*arguments, device=CPU)):
        loader.set_epoch(1)
        assert len(loader) == steps
        found.append(list(loader))
    return found


@pytest.mark.parametrize("crop", [ANYWHERE, BY_CLASSES], ids=["anywhere", "by classes"])
@pytest.mark.parametrize("channels", [1, 2])
def test_crops_and_flips_are_those_of_the_host_bit_for_bit(crop: Any, channels: int) -> None:
    host, device = both(patches(crop, channels))
    for expected, found in zip(host, device, strict=True):
        assert list(found) == list(expected) == ["image", "label", "image_u"]
        for key, values in expected.items():
            assert found[key].dtype == torch.float32
            assert torch.equal(found[key], values)
    assert len({float(batch["image"].sum()) for batch in device}) == len(device)


@pytest.mark.parametrize("width", [8, 5])
def test_slices_are_turned_as_by_the_host_bit_for_bit_and_rotated_to_rounding(width: int) -> None:
    host, device = both(slices(width=width), steps=30)
    exact = 0
    for expected, found in zip(host, device, strict=True):
        for key, values in expected.items():
            for one, other in zip(found[key], values, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=0.0)
                exact += torch.equal(one, other)
    assert exact > 30 * 8 / 2


def test_without_unlabelled_volumes_there_are_only_labelled_batches() -> None:
    host, device = both((patches(ANYWHERE)[0], None))
    for expected, found in zip(host, device, strict=True):
        assert list(found) == ["image", "label"]
        assert all(torch.equal(found[key], values) for key, values in expected.items())


def test_float16_rounds_the_images_and_leaves_the_labels() -> None:
    arguments = (*patches(ANYWHERE), (2, 3), 2, 5)
    for exact, rounded in zip(
        DeviceLoader(*arguments, device=CPU), DeviceLoader(*arguments, device=CPU, dtype=torch.float16), strict=True
    ):
        assert torch.equal(rounded["label"], exact["label"])
        assert torch.equal(rounded["image"], exact["image"].half().float())
        assert (rounded["image"] - exact["image"]).abs().max() <= 2**-12


@pytest.mark.parametrize(("wanted", "kind"), [(False, TwoStreamLoader), (True, DeviceLoader), ("true", DeviceLoader)])
def test_the_switch_keeps_volumes_on_the_device(wanted: Any, kind: type) -> None:
    assert type(create_loader(*patches(ANYWHERE), (2, 2), 3, 0, on_device=wanted)) is kind


@pytest.mark.parametrize(("free", "expected"), [(1.0, torch.float32), (0.6, torch.float16), (0.4, None)])
def test_volumes_are_kept_in_the_finest_type_that_takes_half_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: float, expected: torch.dtype | None
) -> None:
    streams = patches(ANYWHERE)
    images = sum(item["image"].numel() for stream in streams for item in stream.volumes)
    labels = sum(item["label"].numel() for item in streams[0].volumes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * 2 * (4 * images + labels)) + 2, 0))
    assert fitting(streams, torch.device("cuda", 0)) == expected


def test_a_volume_that_does_not_fit_is_cut_on_the_host_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_device, "fitting", lambda streams, device: None)
    with caplog.at_level(logging.INFO):
        loader = create_loader(*patches(ANYWHERE), (2, 2), 3, 0, on_device=True)
    assert type(loader) is TwoStreamLoader
    assert caplog.messages == [
        "training: batches are made on the host: the volumes do not fit on the device beside the training"
    ]


@pytest.mark.parametrize(
    "transforms",
    [
        [ANYWHERE, RandGaussianNoised(BOTH)],
        [ANYWHERE, RandFlipd(["image"], prob=1.0)],
        [RandTurnOrRotated(BOTH, 20, ["bilinear", "nearest"]), RandFlipd(BOTH, prob=0.5)],
    ],
    ids=["unknown", "image without its label", "a flip after a rotation"],
)
def test_transforms_that_a_device_does_not_know_are_left_to_the_host(
    transforms: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    stream = SampleDataset(volumes(2), Compose(transforms))
    with caplog.at_level(logging.INFO):
        loader = create_loader(stream, None, (2, 0), 3, 0, on_device=True)
    assert type(loader) is TwoStreamLoader
    assert "is not known there" in caplog.messages[0]
