"""Order and augmentation depend on seed and step alone; labels of unlabelled cases are never touched."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.data.streams import LABELLED, UNLABELLED, Key, SampleDataset, TwoStreamLoader, TwoStreamSampler
from scripts.errors import UserError
from tests.tiny_training import augmentation, phantom_streams

Streams = tuple[SampleDataset, SampleDataset]


@pytest.fixture(scope="module")
def streams(heart_phantom: Path) -> Streams:
    return phantom_streams(heart_phantom)


def epochs(sampler: TwoStreamSampler, *numbers: int) -> list[list[Key]]:
    batches = []
    for number in numbers:
        sampler.set_epoch(number)
        batches += list(sampler)
    return batches


def drawn(batches: list[list[Key]], stream: int) -> list[Key]:
    return [key for batch in batches for key in batch if key[0] == stream]


def loaded(loader: TwoStreamLoader, *numbers: int) -> list[dict[str, torch.Tensor]]:
    batches = []
    for number in numbers:
        loader.set_epoch(number)
        batches += list(loader)
    return batches


def assert_equal(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("lengths", [(5, 12), (3, 7), (1, 2)])
def test_each_stream_passes_through_all_its_samples_once_per_turn(lengths: tuple[int, int]) -> None:
    batches = epochs(TwoStreamSampler(lengths, (2, 3), steps=7, seed=1), *range(6))
    for stream, length in enumerate(lengths):
        indices = [index for _, index, _ in drawn(batches, stream)]
        turns = [indices[start : start + length] for start in range(0, len(indices) - length + 1, length)]
        assert len(turns) >= 7
        assert all(sorted(turn) == list(range(length)) for turn in turns)


def test_every_turn_has_an_order_of_its_own() -> None:
    indices = [index for _, index, _ in drawn(epochs(TwoStreamSampler((20, 0), (4, 0), 5, seed=1), 0, 1, 2), LABELLED)]
    assert len({tuple(indices[start : start + 20]) for start in range(0, 60, 20)}) == 3


def test_every_batch_has_its_share_of_both_streams() -> None:
    for batch in epochs(TwoStreamSampler((5, 12), (2, 3), steps=7, seed=1), 0, 1):
        assert Counter(stream for stream, _, _ in batch) == {LABELLED: 2, UNLABELLED: 3}


def test_order_is_a_function_of_the_seed() -> None:
    first, again, other = (epochs(TwoStreamSampler((9, 9), (2, 2), 5, seed), 0, 1) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_an_epoch_is_the_same_reached_by_iterating_or_by_a_jump() -> None:
    walked = TwoStreamSampler((5, 12), (2, 3), steps=7, seed=1)
    everything = epochs(walked, 0, 1, 2, 3)
    assert epochs(TwoStreamSampler((5, 12), (2, 3), steps=7, seed=1), 3) == everything[21:]
    assert epochs(walked, 1) == everything[7:14]


def test_order_does_not_depend_on_how_steps_are_cut_into_epochs() -> None:
    long, short = TwoStreamSampler((5, 12), (2, 3), 6, seed=1), TwoStreamSampler((5, 12), (2, 3), 2, seed=1)
    assert epochs(long, 0, 1) == epochs(short, *range(6))


def test_no_two_steps_share_their_random_numbers() -> None:
    samplers = [TwoStreamSampler((2, 3), (2, 2), 50, seed) for seed in (0, 1)]
    assert len({sampler.step_seed(step) for sampler in samplers for step in range(100)}) == 200


def test_no_two_draws_share_an_augmentation() -> None:
    batches = epochs(TwoStreamSampler((2, 3), (2, 2), steps=50, seed=0), 0, 1)
    assert max(Counter(seed for batch in batches for _, _, seed in batch).values()) == 1


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_see_in_an_epoch_what_one_process_sees(world_size: int) -> None:
    one = TwoStreamSampler((5, 12), (2, 3), steps=12, seed=1)
    ranks = [TwoStreamSampler((5, 12), (2, 3), 12, 1, rank, world_size) for rank in range(world_size)]
    for epoch in range(3):
        alone, shares = epochs(one, epoch), [epochs(sampler, epoch) for sampler in ranks]
        assert {len(share) for share in shares} == {12 // world_size}
        seeds = [[sampler.step_seed(step) for sampler in ranks] for step in range(12 // world_size)]
        assert [seed for step in seeds for seed in step] == [one.step_seed(step) for step in range(12)]
        # Step by step, the shares side by side are the next batches of the one process.
        assert [batch for step in zip(*shares, strict=True) for batch in step] == alone


def test_loader_takes_its_share_from_the_process_group(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    loader = TwoStreamLoader(*streams, (2, 2), steps=4, seed=0)
    monkeypatch.undo()
    assert len(loader) == 2
    assert_equal(loaded(loader, 0), loaded(TwoStreamLoader(*streams, (2, 2), steps=4, seed=0), 0)[1::2])


def test_samples_are_the_slices_of_the_volumes(streams: Streams) -> None:
    labelled, _ = streams
    plain = SampleDataset(labelled.volumes, lambda item: item, slice_axis=2)
    assert len(plain) == sum(volume["image"].shape[-1] for volume in labelled.volumes) == 4 * 6
    for index in (0, 5, 6, 23):
        volume = labelled.volumes[index // 6]
        sample = plain.sample(index, seed=0)
        assert set(sample) == {"image", "label"}
        for key, value in sample.items():
            assert type(value) is torch.Tensor
            assert torch.equal(value, volume[key][..., index % 6].as_tensor())


def test_another_axis_cuts_other_slices() -> None:
    volume = {"image": torch.arange(24.0).reshape(1, 2, 3, 4)}
    dataset = SampleDataset([volume], lambda item: item, slice_axis=0)
    assert len(dataset) == 2
    assert torch.equal(dataset.sample(1, 0)["image"], volume["image"][:, 1])


def test_without_a_slice_axis_a_volume_is_one_sample() -> None:
    volumes = [{"image": torch.rand(1, 4, 4, 4), "label": torch.zeros(1, 4, 4, 4)} for _ in range(3)]
    dataset = SampleDataset(volumes, lambda item: item)
    assert len(dataset) == 3
    assert torch.equal(dataset.sample(2, 0)["image"], volumes[2]["image"])


def test_a_sample_depends_on_its_index_and_seed_alone(streams: Streams) -> None:
    dataset, _ = streams
    first = dataset.sample(2, seed=5)
    dataset.sample(9, seed=6)
    torch.manual_seed(1)
    again = dataset.sample(2, seed=5)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert len({dataset.sample(2, seed)["image"].numpy().tobytes() for seed in range(8)}) > 4


def test_a_sample_takes_one_random_state_however_deep_its_transforms(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(np.random.RandomState):
        def __init__(self, seed: Any = None) -> None:
            super().__init__(seed)
            made.append(self)

    monkeypatch.setattr(np.random, "RandomState", Counted)
    for seed in range(8):  # both of the choice
        streams[0].sample(2, seed)
    assert len(made) == 8


def test_augmentation_leaves_the_cached_volumes_alone(streams: Streams) -> None:
    dataset, _ = streams
    before = [volume["image"].clone() for volume in dataset.volumes]
    for index in range(len(dataset)):
        dataset.sample(index, seed=index)
    assert all(torch.equal(volume["image"], image) for volume, image in zip(dataset.volumes, before, strict=True))


def test_batches_hold_both_streams(streams: Streams) -> None:
    loader = TwoStreamLoader(*streams, (2, 3), steps=4, seed=0)
    batches = loaded(loader, 0)
    assert len(batches) == len(loader) == 4
    for batch in batches:
        shapes = {key: tuple(value.shape) for key, value in batch.items()}
        assert shapes == {"image": (2, 1, 32, 32), "label": (2, 1, 32, 32), "image_u": (3, 1, 32, 32)}


def test_batches_do_not_depend_on_the_number_of_workers(streams: Streams) -> None:
    alone, pooled = (TwoStreamLoader(*streams, (2, 2), steps=5, seed=3, num_workers=n) for n in (0, 2))
    assert_equal(loaded(alone, 0, 1, 4), loaded(pooled, 0, 1, 4))


@pytest.mark.parametrize("empty", [None, []])
def test_an_empty_unlabelled_list_gives_no_unlabelled_images(streams: Streams, empty: list[Any] | None) -> None:
    unlabelled = None if empty is None else SampleDataset(empty, augmentation(), slice_axis=2)
    batches = loaded(TwoStreamLoader(streams[0], unlabelled, (2, 2), steps=3, seed=0), 0)
    assert all(set(batch) == {"image", "label"} for batch in batches)


def test_labelled_batches_do_not_depend_on_the_unlabelled_stream(streams: Streams) -> None:
    alone = loaded(TwoStreamLoader(streams[0], None, (2, 2), steps=3, seed=0), 0)
    joined = loaded(TwoStreamLoader(*streams, (2, 2), steps=3, seed=0), 0)
    assert_equal(alone, [{key: batch[key] for key in ("image", "label")} for batch in joined])


def test_fewer_samples_than_a_batch_are_drawn_again(streams: Streams) -> None:
    one = SampleDataset([{"image": torch.rand(1, 32, 32)}], augmentation())
    batches = loaded(TwoStreamLoader(streams[0], one, (2, 4), steps=3, seed=0), 0)
    assert all(batch["image_u"].shape == (4, 1, 32, 32) for batch in batches)
    assert len({image.numpy().tobytes() for batch in batches for image in batch["image_u"]}) > 4


def test_no_labelled_sample_is_an_error(streams: Streams) -> None:
    with pytest.raises(UserError, match="labelled cases: expected at least one"):
        TwoStreamLoader(SampleDataset([], augmentation(), slice_axis=2), streams[1], (2, 2), 3, 0)


def test_labels_of_unlabelled_cases_are_neither_needed_nor_opened(heart_phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "heart"
    shutil.copytree(heart_phantom, folder)
    offered = offer_labels_for_all(folder / "datalist.json")
    assert [path.name for path in offered] == [f"heart00{n}_{phase}.nii.gz" for n in (3, 4) for phase in ("ED", "ES")]
    offered[0].write_text("no image: whoever reads this, fails")  # the others do not exist
    with opened_files() as opened:
        batches = loaded(TwoStreamLoader(*phantom_streams(folder), (2, 2), steps=3, seed=0), 0)
    assert all("image_u" in batch for batch in batches)
    read = {path.relative_to(folder).as_posix() for path in opened if path.is_relative_to(folder)}
    cases = {n: [f"heart00{n}_{phase}.nii.gz" for phase in ("ED", "ES")] for n in (1, 2, 3, 4)}
    assert read == {
        "datalist.json",
        "split.json",
        *(f"images/{name}" for names in cases.values() for name in names),
        *(f"labels/{name}" for n in (1, 2) for name in cases[n]),
    }


def offer_labels_for_all(datalist: Path) -> list[Path]:
    """Give every case of the datalist a "label"; returns the paths that this adds."""
    content = json.loads(datalist.read_text())
    added = [case for case in content["cases"] if "label" not in case]
    for case in added:
        case["label"] = case["image"].replace("images", "labels")
    datalist.write_text(json.dumps(content))
    return [datalist.parent / case["label"] for case in added]


recording: list[set[Path]] = []


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if recording and event == "open" and isinstance(arguments[0], str):
        recording[0].add(Path(arguments[0]))


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """Every file that is opened meanwhile, by whichever reader and in whichever thread: Python's audit events tell."""
    sys.addaudithook(_record)  # stays for the life of the process, but is idle outside of this block
    recording.append(set())
    try:
        yield recording[0]
    finally:
        recording.clear()
