"""The augmentation of nnU-Net."""

import pytest
import torch

from scripts.data.augmentation import strong_augmentation

SIZES = {2: (48, 40), 3: (48, 40, 32)}
GEOMETRY = ("RandRotated", "RandZoomd", "RandFlipd")


def blocks(size):
    """Class ids 0..3 in blocks of the first axis, around the middle of the others."""
    label = torch.zeros(1, *size)
    inner = tuple(slice(n // 4, 3 * n // 4) for n in size[1:])
    for c in (1, 2, 3):
        label[(0, slice(c * size[0] // 5, (c + 1) * size[0] // 5), *inner)] = c
    return label


def only(transform, names):
    """The transform with all others left out."""
    transform.transforms = tuple(one for one in transform.transforms if type(one).__name__ in names)
    return transform


def draws(transform, item, count, seed=0):
    transform.set_random_state(seed)
    return [transform(dict(item)) for _ in range(count)]


@pytest.mark.parametrize("spatial_dims", SIZES)
def test_sizes_and_class_ids_stay_and_images_without_labels_pass(spatial_dims):
    label = blocks(SIZES[spatial_dims])
    transform = strong_augmentation(spatial_dims, range(spatial_dims))
    for item in draws(transform, {"image": label / 3, "label": label}, 60):
        assert item["image"].shape == item["label"].shape == label.shape
        assert item["image"].isfinite().all()
        assert set(item["label"].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert draws(transform, {"image": label / 3}, 1)[0].keys() == {"image"}


@pytest.mark.parametrize("spatial_dims", SIZES)
def test_image_and_label_move_together(spatial_dims):
    label = blocks(SIZES[spatial_dims])
    moved = draws(only(strong_augmentation(spatial_dims, [0, 1]), GEOMETRY), {"image": label, "label": label}, 40)
    assert sum(not torch.equal(item["label"], label) for item in moved) > 20
    assert (label - label.flip(1)).abs().mean() > 0.2  # what a flip of one of them would give
    for item in moved:
        assert (item["image"] - item["label"]).abs().mean() < 0.12  # what interpolation leaves at borders


@pytest.mark.parametrize(("spatial_dims", "share"), [(2, 0.2), (3, 1 - 0.8 * 0.8)])
def test_scales_and_rotates_as_often_as_nnu_net(spatial_dims, share):
    label = blocks(SIZES[spatial_dims])
    moved = draws(only(strong_augmentation(spatial_dims), GEOMETRY), {"image": label, "label": label}, 300)
    assert sum(not torch.equal(item["label"], label) for item in moved) / 300 == pytest.approx(share, abs=0.06)


def test_mirrors_only_along_the_axes_that_are_named():
    label = blocks(SIZES[2])
    found = draws(only(strong_augmentation(2, [0]), "RandFlipd"), {"image": label, "label": label}, 40)
    kinds = {tuple(item["label"].flatten().tolist()) for item in found}
    assert kinds == {tuple(label.flatten().tolist()), tuple(label.flip(1).flatten().tolist())}


def test_intensities_leave_labels_alone():
    label = blocks(SIZES[2])
    transform = strong_augmentation(2)
    transform.transforms = tuple(one for one in transform.transforms if type(one).__name__ not in GEOMETRY)
    found = draws(transform, {"image": label / 3, "label": label}, 40)
    assert all(torch.equal(item["label"], label) for item in found)
    assert 15 < sum(not torch.equal(item["image"], label / 3) for item in found) < 38


def test_the_same_seed_draws_the_same():
    item = {"image": blocks(SIZES[2]) / 3}
    first, again, other = (draws(strong_augmentation(2), item, 8, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))
