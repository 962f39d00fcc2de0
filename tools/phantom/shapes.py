"""Shapes, poses and smooth random fields in mm, from which the phantoms are put together.

Points are float32 arrays [3, X, Y, Z] in mm, masks and fields have the shape [X, Y, Z].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]


def grid(size: Sequence[int], spacing: Sequence[float]) -> Array:
    """Positions of the voxel centres [3, X, Y, Z], the volume's centre at the origin."""
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * step for n, step in zip(size, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def smooth_field(points: Array, wavelength: float, rng: np.random.Generator, waves: int = 4) -> Array:
    """A random field of zero mean and unit standard deviation: a few plane waves of about `wavelength` mm."""
    directions = rng.normal(size=(waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions *= 2 * np.pi / wavelength * rng.uniform(0.6, 1.4, (waves, 1))
    phases = rng.uniform(0, 2 * np.pi, waves)
    field = np.zeros(points.shape[1:], np.float32)
    for direction, phase in zip(directions.astype(np.float32), phases, strict=True):
        field += np.cos(np.tensordot(direction, points, 1) + np.float32(phase))
    return field * np.float32(np.sqrt(2 / waves))


def pose(
    points: Array, rng: np.random.Generator, turn: Triple, shift: Triple, scale: float, bend: Triple, wavelength: float
) -> Array:
    """Positions in the anatomy's own frame for a randomly placed, scaled and bent anatomy.

    Args:
        points: positions in the image.
        rng: draws the pose.
        turn: largest rotation about each axis (degrees).
        shift: largest translation along each axis (mm).
        scale: largest relative deviation of each axis from its normal length.
        bend: standard deviation of the smooth displacement along each axis (mm).
        wavelength: of that displacement (mm).
    """
    rotation = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * turn, degrees=True).as_matrix()
    matrix = (rotation / rng.uniform(1 - scale, 1 + scale, 3)[:, None]).astype(np.float32)
    moved = points - (rng.uniform(-1, 1, 3) * shift).astype(np.float32)[:, None, None, None]
    waves = [smooth_field(points, wavelength, rng) for _ in bend]
    bent = np.stack([axis + np.float32(b) * wave for axis, b, wave in zip(moved, bend, waves, strict=True)])
    return np.tensordot(matrix, bent, 1)


def ellipsoid(points: Array, centre: Triple, semi_axes: Triple, turn: float = 0.0) -> Mask:
    """Inside of an ellipsoid, turned by `turn` degrees about the third axis; an infinite semi-axis makes a cylinder."""
    x, y, z = (points[i] - np.float32(centre[i]) for i in range(3))
    cos, sin = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    a, b, c = (np.float32(axis) for axis in semi_axes)
    return ((x * cos + y * sin) / a) ** 2 + ((y * cos - x * sin) / b) ** 2 + (z / c) ** 2 < 1


def tube(points: Array, path: Sequence[Triple], radii: Sequence[float]) -> Mask:
    """Inside of a tube along a polyline, its radius (mm) interpolated between the vertices."""
    inside = np.zeros(points.shape[1:], np.bool_)
    for start, end, first, last in zip(path[:-1], path[1:], radii[:-1], radii[1:], strict=True):
        axis = np.subtract(end, start).astype(np.float32)
        from_start = points - np.asarray(start, np.float32)[:, None, None, None]
        along = np.clip(np.tensordot(axis, from_start, 1) / (axis @ axis), 0, 1)
        squared = sum((from_start[i] - along * axis[i]) ** 2 for i in range(3))
        inside |= squared < (np.float32(first) + along * np.float32(last - first)) ** 2
    return inside
