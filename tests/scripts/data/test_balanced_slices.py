"""Slices of rare classes are drawn as often as those of frequent ones, where that is asked for."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from monai.transforms import Compose

from scripts.data.on_device import DeviceLoader
from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.errors import UserError


def volumes(rare: int = 1) -> list[dict[str, torch.Tensor]]:
    """Two volumes of ten slices, each of its own grey value: class 1 in all but three, class 2 in `rare` of one."""
    made = []
    for number in range(2):
        image = (10.0 * number + torch.arange(10)).expand(1, 8, 8, 10).contiguous()
        label = torch.zeros(1, 8, 8, 10, dtype=torch.uint8)
        label[:, :4, :, :7] = 1
        if number:
            label[:, 6:, 6:, 2 : 2 + rare] = 2
        made.append({"image": image, "label": label})
    return made


def drawn(stream: SampleDataset, turns: int = 1) -> Counter[str]:
    """How often each class is in a slice, in so many passes through the stream."""
    loader = TwoStreamLoader(stream, None, (2, 0), turns * len(stream) // 2, seed=0)
    loader.set_epoch(0)
    found = Counter[str]()
    for batch in loader:
        for label in batch["label"]:
            found.update(str(int(c)) for c in label.unique().tolist() if c or not label.any())
    return found


@pytest.mark.parametrize(("axis", "rare"), [(2, 1), (2, 3), (0, 2)])
def test_each_class_and_none_are_drawn_equally_often(axis: int, rare: int) -> None:
    moved = [{key: value.movedim(3, 1 + axis) for key, value in item.items()} for item in volumes(rare)]
    stream = SampleDataset(moved, Compose([]), axis, balanced=True)
    # 14 of each: those of class 1 are the slices that there are, and class 2 is in some of them, too.
    assert drawn(stream) == {"0": 14, "1": 14 + 14, "2": 14 + rare}
    plain = drawn(SampleDataset(moved, Compose([]), axis))
    assert plain == {"0": 6, "1": 14, "2": rare}


def test_every_slice_is_still_drawn_in_every_turn() -> None:
    stream = SampleDataset(volumes(), Compose([]), 2, balanced=True)
    assert set(stream.index) == {(v, s) for v in range(2) for s in range(10)}


def test_switch_may_be_a_word_of_the_command_line() -> None:
    assert len(SampleDataset(volumes(), Compose([]), 2, balanced="false")) == 20  # type: ignore[arg-type]
    assert len(SampleDataset(volumes(), Compose([]), 2, balanced="True")) == 42  # type: ignore[arg-type]
    with pytest.raises(UserError, match="balanced_slices: expected true or false, found 'often'"):
        SampleDataset(volumes(), Compose([]), 2, balanced="often")  # type: ignore[arg-type]


def test_a_device_makes_the_same_batches() -> None:
    stream = SampleDataset(volumes(), Compose([]), 2, balanced=True)
    loaders = (
        TwoStreamLoader(stream, None, (3, 0), 20, 7),
        DeviceLoader(stream, None, (3, 0), 20, 7, device=torch.device("cpu")),
    )
    for host, device in zip(*loaders, strict=True):
        assert all(torch.equal(host[key], device[key]) for key in ("image", "label"))
