"""Distances between the surfaces of two masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


def surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from each surface voxel of one mask to the nearest surface voxel of the other, in both directions.

    A mask's surface is the mask without its erosion by a voxel along the axes; voxels at the array's border are on it.
    A search tree of the surface's voxels finds them: these are few, and a distance transform visits every voxel.

    Args:
        first, second: bool [*spatial] of any dimension, neither of them empty.
        spacing: voxel size per axis; None for distances in voxels.

    Returns:
        From the first to the second, and from the second to the first; as long as the surface that they start from.
    """
    scale = 1.0 if spacing is None else np.asarray(spacing)
    points, others = (np.argwhere(mask ^ ndimage.binary_erosion(mask)) * scale for mask in (first, second))
    return _nearest(points, others), _nearest(others, points)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point [N, dimensions] to the nearest of the others, [N]."""
    # Points of a grid need no balancing, which takes longer than it saves.
    return cKDTree(others, compact_nodes=False, balanced_tree=False).query(points)[0]
