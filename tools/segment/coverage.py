"""Which images to label so that every image has a labelled one like it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.spatial.distance import cdist


def gains(
    features: Mapping[str, Sequence[float]],
    labelled: Collection[str],
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """What share of the distances to the nearest labelled image a label of each other image would take away.

    The distance of an image is Euclidean, in features that are scaled to one variance over all images. Without a
    labelled image all of them are equally far. So the first image asked for is the most typical, the medoid of all, and
    each further one is typical of those that are still far from a label (greedy k-medoids).

    Args:
        features: of every image, the labelled ones included, the same number of each.
        labelled: the images that have a label.
        weights: how much the distance of each image without a label counts; None: all alike.

    Returns:
        0 (nothing) to 1 (no distance is left) for each image without a label.
    """
    names = list(features)
    values = np.array([features[name] for name in names], dtype=np.float64)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
    distances = cdist(values, values)
    with_label = [i for i, name in enumerate(names) if name in labelled]
    nearest = distances[:, with_label].min(1) if with_label else np.full(len(names), distances.max())
    counts = np.array([1.0 if weights is None else weights.get(name, 0.0) for name in names])
    left = counts * nearest
    after = counts[:, None] * np.minimum(nearest[:, None], distances)
    shares = (left.sum() - after.sum(0)) / max(left.sum(), 1e-12)
    return {name: float(shares[i]) for i, name in enumerate(names) if name not in labelled}


def next_by_gain(
    features: Mapping[str, Sequence[float]],
    labelled: Collection[str],
    weights: Mapping[str, float] | None = None,
) -> tuple[str, float]:
    """The image to label next, with its gain (see `gains`): that of the largest, of equal ones the first by name."""
    found = gains(features, labelled, weights)
    name = min(found, key=lambda name: (-found[name], name))
    return name, found[name]
