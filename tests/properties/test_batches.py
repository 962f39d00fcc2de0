"""From files to batches: an image and its label stay together and in their place, whatever the grid and the storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from tests.bundle_commands import ACDC, SYNAPSE
from tests.properties.cases import Case, pairs, prepared
from tests.properties.profiles import costly
from tests.properties.scans import FAINT, ROUNDING, Ramp, class_counts, factors, moved, seeds, shown

booleans = st.booleans()


def configured(bundle: Path, folder: Path, classes: int, **settings: Any) -> ConfigParser:
    """A bundle's train.json for a data set that `prepared` has written."""
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "train.json")
    places = {"bundle_root": str(bundle), "dataset_dir": str(folder), "split_file": str(folder / "split.json")}
    names = {str(c): f"class {c}" for c in range(1, classes + 1)}
    common = {"labels": names, "percent": 50, "width": 2, "batch_size": [2, 1], "amp": False, "device": "cpu"}
    parser.update(places | common | settings)
    return parser


def assert_together(images: torch.Tensor, labels: torch.Tensor, classes: int, ct: bool, blur: float) -> None:
    """Every voxel's class is that of its intensity, or of one that lies less than `blur` of a ramp's values away."""
    image, label = images.numpy(), labels.numpy()
    assert image.shape == label.shape
    assert np.isfinite(image).all()
    assert set(np.unique(label)) <= set(range(classes + 1))
    bands = FAINT + (1 - FAINT) * np.arange(classes + 1) / classes
    low, high = np.array([0.0, *bands[:-1]]), np.array([FAINT, *bands[1:]])  # of each class, in a ramp's values
    ids = label.astype(int)
    assert (image >= shown(low[ids] - blur, ct) - 1e-4).all()
    assert (image <= shown(high[ids] + blur, ct) + 1e-4).all()


def assert_in_place(volume: MetaTensor, ramp: Ramp, ct: bool) -> None:
    """Every voxel has the intensity of its place in the patient; zeros beside the scan are padded."""
    places = moved(volume.affine.numpy(), np.indices(volume.shape[1:]))
    own, found = moved(np.linalg.inv(ramp.grid.affine), places), volume[0].numpy()
    ends = np.array(ramp.grid.shape).reshape(3, 1, 1, 1) - 1
    beside = np.maximum(-own, own - ends).max(0)  # voxels
    asked = (beside < 0.501) & ((beside < 0.001) | (found > 0))
    assert asked.any()
    expected = shown(ramp.at(moved(ramp.grid.affine, own.clip(0, ends))), ct)  # its border goes on outside
    assert np.abs(found - expected)[asked].max() < ROUNDING


@costly()
@given(pairs, class_counts, factors, booleans, booleans, seeds)
def test_batches_of_volumes(
    folder: Callable[[], Path],
    pair: tuple[Case, Case],
    classes: int,
    factors: tuple[float, float, float],
    balanced: bool,
    crop: bool,
    seed: int,
) -> None:
    root, ramp = folder(), pair[0].ramp
    prepared(root, [pair[0].save(root, "a", classes), pair[1].save(root, "b", classes, labelled=False)], classes)
    network = ramp.grid.in_network(factors)
    chosen = {"crop_foreground": crop, "balanced_crops": balanced, "flip_probability": 0.5, "seed": seed % 1000}
    sizes = {"spacing": network.spacing.tolist(), "patch_size": [16, 16, 16]}
    parser = configured(SYNAPSE, root, classes, **sizes, **chosen)
    item = parser.get_parsed_content("train::dataset")[0]
    blur = ramp.over(ramp.grid.affine, 0.5) + ROUNDING  # how far the nearest voxel of the scan may lie
    assert_in_place(item["image"], ramp, True)
    assert_together(item["image"], item["label"], classes, True, blur)
    batch = loaded(parser)
    assert tuple(batch["image"].shape) == (2, 1, 16, 16, 16)
    assert tuple(batch["image_u"].shape) == (1, 1, 16, 16, 16)
    assert_together(batch["image"], batch["label"], classes, True, blur)


def loaded(parser: ConfigParser) -> dict[str, torch.Tensor]:
    """The first batch of a training."""
    loader = parser.get_parsed_content("train::dataloader")
    loader.set_epoch(0)
    batch = next(iter(loader))
    assert {values.dtype for values in batch.values()} == {torch.float32}
    assert all(values.isfinite().all() for values in batch.values())
    assert all(batch[key].min() >= -1e-5 and batch[key].max() <= 1 + 1e-5 for key in ("image", "image_u"))
    return batch


@costly()
@given(pairs, class_counts, st.tuples(st.integers(8, 40), st.integers(8, 40)), seeds)
def test_batches_of_slices(
    folder: Callable[[], Path], pair: tuple[Case, Case], classes: int, size: tuple[int, int], seed: int
) -> None:
    root, ramp = folder(), pair[0].ramp
    prepared(root, [pair[0].save(root, "a", classes), pair[1].save(root, "b", classes, labelled=False)], classes)
    parser = configured(ACDC, root, classes, image_size=list(size), seed=seed % 1000)
    item = parser.get_parsed_content("train::dataset")[0]
    assert_in_place(item["image"], ramp, False)
    blur = ramp.over(ramp.grid.in_slices(), 0.5) + ROUNDING  # how far the nearest voxel of the scan may lie
    assert_together(item["image"], item["label"], classes, False, blur)
    batch = loaded(parser)
    assert tuple(batch["image"].shape) == (2, 1, *size)
    assert tuple(batch["image_u"].shape) == (1, 1, *size)
    turned = ramp.over(ramp.grid.in_slices(size), 0.5)  # the nearest again
    assert_together(batch["image"], batch["label"], classes, False, blur + turned)
