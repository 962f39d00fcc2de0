"""Label maps on the image's own grid: what an interpolation of every class gives, at what cost."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scripts.inference import native_grid
from scripts.inference.native_grid import LabelsOnImageGridd, labels_on_image_grid, resampled

CLASSES, SLAB = 14, 16
THREADS = 3  # that share the places where all classes are interpolated
GRID, IMAGE = (36, 30, 28), (100, 90, 60)  # voxels
# Of the image's voxels in the network's.
SHIFT, SCALE = np.array([-2.012, 1.513, 2.017]), np.array([0.3717, 0.3331, 0.4309])
# Of the image's axes in those of the network's grid, beside their scale.
TURNS = {
    "aligned": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "axes exchanged": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    "turned a little": [[1, 0.027, 0], [-0.027, 1, 0], [0, 0, 1]],  # the far end by less than a voxel of the grid
    "sheared": [[1, 0.3, 0], [0, 1, -0.2], [0.1, 0, 1]],
}


class Largest(TorchDispatchMode):
    """The most elements of any tensor of floating-point numbers, and of any at all, that an operation gives."""

    floating, any = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                held = min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())  # if expanded
                self.any = max(self.any, held)
                self.floating = max(self.floating, held if tensor.is_floating_point() else 0)
        return out


class OneDevice(TorchDispatchMode):
    """No operation but a copy takes tensors of two devices; single numbers may come from anywhere."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "copy" not in func.name():
            found = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()}
            assert len(found) < 2, f"{func} takes tensors of {found}"
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: THREADS)


def blobs(turn: str = "aligned") -> MetaTensor:
    """Probabilities of blobs [C, *GRID], some of them at the border, with the two grids in their meta data."""
    coarse = torch.randn(1, CLASSES, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, GRID, mode="trilinear")[0]
    affine = np.eye(4)
    affine[:3, :3] = np.diag(SCALE) @ np.array(TURNS[turn])
    affine[:3, 3] = SHIFT
    meta = {"affine": np.eye(4), "original_affine": affine, "spatial_shape": np.array(IMAGE)}
    return MetaTensor((8 * smooth).softmax(0), meta=meta)


@functools.cache
def interpolated(turn: str) -> NDArray[np.float64]:
    """All classes at every voxel of the image [C, *IMAGE] by scipy."""
    probabilities = blobs(turn)
    affine = np.asarray(probabilities.meta["original_affine"])
    places = np.tensordot(affine[:3, :3], np.indices(IMAGE), 1) + affine[:3, 3].reshape(3, 1, 1, 1)
    values = probabilities.numpy().astype(float)
    return np.stack([map_coordinates(value, places, order=1, mode="grid-constant") for value in values])


@pytest.mark.parametrize("turn", TURNS)
def test_values_are_interpolated_linearly_and_zero_outside(turn: str) -> None:
    found = torch.cat(list(resampled(blobs(turn), SLAB)), -1)
    np.testing.assert_allclose(found.numpy(), interpolated(turn), atol=2e-5)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("slab", [SLAB, 7, 1000])
def test_labels_are_the_likeliest_of_all_classes_interpolated_everywhere(turn: str, slab: int) -> None:
    labels = labels_on_image_grid(blobs(turn), slab)
    assert labels.dtype == torch.uint8
    assert len(labels.unique()) > 5
    dense = torch.cat(list(resampled(blobs(turn))), -1)
    assert torch.equal(labels.as_tensor(), dense.argmax(0, keepdim=True).to(torch.uint8))
    first, second = np.sort(interpolated(turn), axis=0)[[-1, -2]]
    clear = (first - second > 1e-4) | (first == 0)  # of rounding; outside
    assert clear.mean() > 0.99
    assert np.array_equal(labels[0].numpy()[clear], interpolated(turn).argmax(0)[clear])


def test_the_transform_replaces_probabilities_by_labels_that_know_where_the_image_is() -> None:
    item = LabelsOnImageGridd("pred")({"pred": blobs(), "image": "other"})
    assert item["image"] == "other"
    assert tuple(item["pred"].shape) == (1, *IMAGE)
    assert torch.equal(item["pred"].as_tensor(), labels_on_image_grid(blobs()).as_tensor())
    np.testing.assert_array_equal(item["pred"].affine, blobs().meta["original_affine"])


def test_an_item_may_lack_the_key_only_where_that_is_allowed() -> None:
    assert LabelsOnImageGridd("pred", allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="pred"):
        LabelsOnImageGridd("pred")({"image": 1})


def test_a_class_that_is_certain_everywhere_fills_the_grid_and_nothing_beside_it() -> None:
    certain = MetaTensor(torch.zeros_like(blobs().as_tensor()), meta=blobs().meta)
    certain[5] = 1
    steps = [SCALE[axis] * np.arange(IMAGE[axis]) + SHIFT[axis] for axis in range(3)]
    inside = [(step > -1) & (step < voxels) for step, voxels in zip(steps, GRID, strict=True)]
    expected = 5 * (inside[0][:, None, None] & inside[1][:, None] & inside[2])
    assert 0 < (expected == 0).mean() < 0.5
    assert np.array_equal(labels_on_image_grid(certain)[0].numpy(), expected)


def test_an_image_that_reaches_far_beyond_the_grid_on_every_side_has_background_there() -> None:
    affine = np.eye(4)
    affine[:3, 3] = -10.5
    certain = MetaTensor(torch.zeros(3, 4, 5, 6), meta={"affine": np.eye(4), "original_affine": affine})
    certain.meta["spatial_shape"] = (24, 26, 28)
    certain[2] = 1
    expected = np.zeros((24, 26, 28))
    expected[10:15, 10:16, 10:17] = 2  # half a voxel beside the grid, too: values fade to zero there
    assert np.array_equal(labels_on_image_grid(certain)[0].numpy(), expected)


@pytest.mark.parametrize("slab", [20, 45])
def test_the_transform_makes_as_many_slices_at_once_as_it_is_told(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, nearest = [], native_grid._nearest
    monkeypatch.setattr(native_grid, "_nearest", lambda *args: sizes.append(args[2][-1]) or nearest(*args))
    LabelsOnImageGridd("pred", slab=slab)({"pred": blobs()})
    assert sizes == [min(slab, IMAGE[2] - start) for start in range(0, IMAGE[2], slab)]


def unsure() -> NDArray[np.bool_]:
    """Where the image's voxels lie nearest to a voxel of the network's grid with another label beside it."""
    labels = np.pad(blobs().numpy().argmax(0), 2)  # background outside
    around = np.lib.stride_tricks.sliding_window_view(labels, (3, 3, 3))
    mixed = around.min((3, 4, 5)) != around.max((3, 4, 5))  # of the grid with one voxel around it
    places = np.indices(IMAGE).reshape(3, -1).T * SCALE + SHIFT
    nearest = np.rint(places).astype(int) + 1
    inside = ((nearest >= 0) & (nearest < mixed.shape)).all(1)
    found: NDArray[np.bool_] = np.zeros(len(places), bool)
    found[inside] = mixed[tuple(nearest[inside].T)]
    return found.reshape(IMAGE)


def places() -> list[int]:
    """Where all classes are interpolated in each slab: the unsure voxels, as many for each thread."""
    counts = [int(unsure()[..., z : z + SLAB].sum()) for z in range(0, IMAGE[2], SLAB)]
    return [-(-count // THREADS) * THREADS for count in counts]


def test_all_classes_are_interpolated_only_where_neighbouring_labels_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, shapes = torch.nn.functional.grid_sample, Counter[int]()

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        found = sample(*args, **kwargs)
        shapes[found.shape[1]] += found[:, 0].numel()
        return found

    monkeypatch.setattr(torch.nn.functional, "grid_sample", counted)
    labels_on_image_grid(blobs(), SLAB)
    assert shapes == {CLASSES: sum(places())}
    assert shapes[CLASSES] < np.prod(IMAGE) / 2  # of these blobs; organs are smoother


@pytest.mark.parametrize("turn", TURNS)
def test_on_another_device_nothing_is_computed_with_numbers_of_the_cpu(
    turn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device `meta` stands for it: it computes nothing, but minds where numbers are."""
    places, pieces = 77, []
    monkeypatch.setattr(torch.Tensor, "nonzero", lambda found: found.new_empty(places, 3, dtype=torch.long))
    sample = torch.nn.functional.grid_sample
    monkeypatch.setattr(
        torch.nn.functional, "grid_sample", lambda *a, **k: pieces.append(a[1].shape) or sample(*a, **k)
    )
    there = MetaTensor(blobs().as_tensor().to("meta"), meta=blobs(turn).meta)
    with OneDevice():
        labels = labels_on_image_grid(there, SLAB)
    assert labels.device.type == "meta"
    assert tuple(labels.shape) == (1, *IMAGE)
    assert {tuple(piece) for piece in pieces} == {(1, 1, 1, places, 3)}  # not one for each thread of the CPU


def test_no_tensor_of_all_classes_is_ever_as_large_as_the_image() -> None:
    probabilities = blobs()
    with Largest() as largest:
        labels_on_image_grid(probabilities, SLAB)
    assert largest.floating == max(probabilities.numel(), CLASSES * max(places())) < CLASSES * np.prod(IMAGE) / 4
    assert largest.any == max(largest.floating, np.prod(IMAGE))  # the label map
