"""From a file to a label map: structures are found where they lie in the patient, whatever the grid and the storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.bundle_commands import ACDC, SYNAPSE
from tests.properties.cases import Case, cases
from tests.properties.profiles import costly
from tests.properties.scans import (
    ROUNDING,
    Array,
    Grid,
    Ramp,
    Storage,
    Turn,
    class_counts,
    factors,
    grids,
    hounsfield,
    images,
    seeds,
    shown,
    turned,
    turns,
)
from tests.properties.segmenting import mosaic, read_map, segment

SIZES = st.tuples(st.integers(4, 40), st.integers(4, 40))


def assert_bands(found: Array, ramp: Ramp, classes: int, ct: bool, blur: float) -> None:
    """Every voxel's class is that of its place in the patient, or of one less than `blur` of a ramp's values away."""
    values = ramp.at(ramp.grid.world())
    low, high = (np.floor(shown(values + change, ct) * (classes + 1)) for change in (-blur, blur))
    assert (found >= low.clip(max=classes)).all()
    assert (found <= high.clip(max=classes)).all()


@costly()
@given(cases(), class_counts, factors, st.booleans(), st.sampled_from([0, 0.5]))
def test_a_volume_is_segmented_where_its_structures_lie(
    folder: Callable[[], Path],
    model: Callable[[int, int], Path],
    case: Case,
    classes: int,
    factors: tuple[float, float, float],
    crop: bool,
    overlap: float,
) -> None:
    ramp, network = case.ramp, case.ramp.grid.in_network(factors)
    image = case.image.save(folder() / "scan", hounsfield(ramp.at(ramp.grid.world())), ramp.grid.affine)
    settings = {"patch_size": [16, 16, 16], "crop_foreground": crop, "overlap": overlap}
    found = segment(SYNAPSE, model(3, classes), classes, image, spacing=network.spacing.tolist(), **settings)
    assert_bands(read_map(found, ramp.grid), ramp, classes, True, ramp.over(network.affine) + ROUNDING)


@costly()
@given(cases(), class_counts, SIZES, st.sampled_from(["trilinear", "nearest-exact"]))
def test_slices_are_segmented_where_their_structures_lie(
    folder: Callable[[], Path],
    model: Callable[[int, int], Path],
    case: Case,
    classes: int,
    size: tuple[int, int],
    interpolation: str,
) -> None:
    ramp = case.ramp
    image = case.image.save(folder() / "scan", hounsfield(ramp.at(ramp.grid.world())), ramp.grid.affine)
    settings = {"image_size": list(size), "interpolation": interpolation}
    found = segment(ACDC, model(2, classes), classes, image, **settings)
    own, resized = ramp.grid.in_slices(), ramp.grid.in_slices(size)
    # Two nearest voxels, or two interpolations between neighbours.
    blur = ramp.over(resized, 0.5 if interpolation == "nearest-exact" else 1.0) + ramp.over(own, 0.5)
    assert_bands(read_map(found, ramp.grid), ramp, classes, False, blur + ROUNDING)


@costly()
@given(grids(), images, class_counts, seeds, st.booleans())
def test_voxels_of_the_networks_own_size_keep_their_classes(
    folder: Callable[[], Path],
    model: Callable[[int, int], Path],
    grid: Grid,
    storage: Storage,
    classes: int,
    seed: int,
    volume: bool,
) -> None:
    values, ids = mosaic(grid, classes, seed)
    image = storage.save(folder() / "scan", values, grid.affine)
    found = segment_alike(volume, model, classes, image, grid, (1, 1, 1))
    assert np.array_equal(read_map(found, grid), ids)


def segment_alike(
    volume: bool,
    model: Callable[[int, int], Path],
    classes: int,
    image: Path,
    grid: Grid,
    factors: Sequence[float],
) -> Path:
    """Segment as a volume or as slices, in voxels of these times the scan's size, along the patient's axes."""
    if volume:
        # Uncropped: whether a voxel that lies one voxel beside the crop is still interpolated is up to rounding.
        sizes = {"spacing": grid.in_network(factors).spacing.tolist(), "patch_size": [16] * 3}
        return segment(SYNAPSE, model(3, classes), classes, image, crop_foreground=False, **sizes)
    size = [max(1, round(grid.shape[axis] / factor)) for axis, factor in zip(grid.plane, factors, strict=False)]
    return segment(ACDC, model(2, classes), classes, image, image_size=size)


@costly()
@given(grids(oblique=False), images, images, turns, class_counts, factors, seeds, st.booleans())
def test_a_scan_that_is_stored_otherwise_is_segmented_alike(
    folder: Callable[[], Path],
    model: Callable[[int, int], Path],
    grid: Grid,
    storage: Storage,
    other: Storage,
    turn: Turn,
    classes: int,
    factors: tuple[float, float, float],
    seed: int,
    volume: bool,
) -> None:
    # Neither of oblique scans, nor where half a voxel is left over: rounding decides where the grid of MONAI's Spacing
    # begins or ends.
    left = np.divide(np.subtract(grid.in_network(factors).shape, 1), factors) % 1
    assume(not volume or (np.abs(left - 0.5) > 1e-3).all())
    root, (values, _) = folder(), mosaic(grid, classes, seed)
    first = segment_alike(volume, model, classes, storage.save(root / "one", values, grid.affine), grid, factors)
    stored = other.save(root / "two", turned(values, turn), grid.turned(turn).affine)
    second = segment_alike(volume, model, classes, stored, grid.turned(turn), factors)
    labels, others = turned(read_map(first, grid), turn), read_map(second, grid.turned(turn))
    shares = turned(read_map(first, grid, "probabilities"), turn)
    assert not (unlike(labels, others, shares) | unlike(others, labels, shares)).any()


def unlike(labels: Array, others: Array, shares: Array) -> Array:
    """Where another label was less likely by more than bytes may round.

    What the classes' shares leave is the background's, or less where the network's grid ends.
    """
    shares = np.concatenate([1 - shares.sum(-1, keepdims=True), shares], -1)
    own, other = (np.take_along_axis(shares, ids[..., None].astype(int), -1)[..., 0] for ids in (labels, others))
    return (labels != 0) & (labels != others) & (own - other > shares.shape[-1] / 255)
