"""A cine heart in short-axis slices, labelled as in ACDC: right ventricle, myocardium, left ventricle, ED and ES.

The left ventricle is half an ellipsoid within a thicker one, the right ventricle a second ellipsoid cut by the first.
Proportions are rounded ones of real ACDC volumes: in voxels, right and left ventricle are about equal, the myocardium
is about 0.8 of the left ventricle at end-diastole (ED) and twice it at end-systole (ES), and half the blood is ejected.
Around it lie tissues of the same brightness: the atria, aorta and vessels, liver, bowel, chest wall and fat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..prepare.layouts.acdc import LABELS, MODALITY
from .shapes import Array, ellipsoid, grid, pose, smooth_field

__all__ = ["LABELS", "MODALITY", "NAME", "ORIENTATION", "SIZE", "SMALLEST", "draw", "spacing"]

NAME = "Heart phantom"
SIZE = (128, 128, 10)
SMALLEST = (32, 32, 4)
ORIENTATION = (-1, -1, 1)
RIGHT_VENTRICLE, MYOCARDIUM, LEFT_VENTRICLE = 1, 2, 3

FIELD_OF_VIEW = 230.0  # mm, in plane
STACK = 100.0  # mm, from above the base to below the apex
CAVITY_END, RIGHT_END = 0.9, 0.85  # where the cavities end, as a part of the way from base to apex

# Relative signal of a balanced steady-state cine.
BRIGHTNESS = {"blood": 0.75, "muscle": 0.27, "fat": 0.85, "lung": 0.07, "liver": 0.33, "vein": 0.6, "air": 0.02}


@dataclass(frozen=True)
class Ventricles:
    """Sizes (mm) of the ventricles in one phase; the apex stays where it is, the base moves."""

    base: float
    length: float
    cavity: float
    outer: float
    right_width: float
    right_height: float

    def contracted(self, left: float, right: float, shortening: float) -> Ventricles:
        """End-systole: cavities scaled by `left` and `right`, the wall so much thicker that it keeps its volume."""
        wall = (self.outer**2 - CAVITY_END * self.cavity**2) * 1.1 / (1 - shortening)
        cavity = left * self.cavity
        return Ventricles(
            base=self.base + shortening * self.length,
            length=(1 - shortening) * self.length,
            cavity=cavity,
            outer=float(np.sqrt(wall + CAVITY_END * cavity**2)),
            right_width=right * self.right_width,
            right_height=right * self.right_height,
        )


def spacing(size: Sequence[int]) -> tuple[float, float, float]:
    """Voxel spacing (mm): the same field of view at every size."""
    in_plane = round(FIELD_OF_VIEW / max(size[:2]), 4)
    return in_plane, in_plane, round(STACK / size[2], 4)


def draw(size: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[str, NDArray[np.int16], NDArray[np.uint8]]]:
    """One random patient: (phase, image, label) of end-diastole, then of end-systole."""
    points = grid(size, spacing(size))
    # Each slice of a stack is taken in a breath-hold of its own, so that neighbours do not quite match.
    points[:2] += rng.normal(0, 1.0, (2, 1, 1, size[2])).astype(np.float32)
    body = pose(points, rng, turn=(0, 0, 12), shift=(10, 10, 0), scale=0.08, bend=(4, 4, 4), wavelength=160)
    # No bending along the stack: the base lies within one slice, as annotators have it.
    heart = pose(points, rng, turn=(0, 0, 30), shift=(14, 14, 3), scale=0.06, bend=(1.8, 1.8, 0), wavelength=90)
    heart[0] -= np.float32(rng.uniform(-0.08, 0.08)) * heart[2]  # the long axis is never quite upright
    cavity, length = rng.uniform(19, 28), rng.uniform(70, 86)
    diastole = Ventricles(
        base=-length / 2,
        length=length,
        cavity=cavity,
        outer=cavity + rng.uniform(5.5, 8),
        right_width=rng.uniform(18, 31),
        right_height=rng.uniform(29, 42),
    )
    systole = diastole.contracted(rng.uniform(0.58, 0.88), rng.uniform(0.62, 0.88), rng.uniform(0.05, 0.12))
    signal = {tissue: value * rng.uniform(0.85, 1.15) for tissue, value in BRIGHTNESS.items()}
    backdrop = _backdrop(body, signal, rng)
    fat = smooth_field(heart, 60, rng) > 0.2
    bias = np.exp(np.float32(rng.uniform(0.1, 0.3)) * smooth_field(points, 250, rng, waves=2))
    gamma, gain, noise = rng.uniform(0.8, 1.25), rng.uniform(400, 1500), rng.uniform(0.02, 0.05)
    for phase, ventricles in (("ED", diastole), ("ES", systole)):
        values, label = _paint(heart, ventricles, backdrop.copy(), fat, signal)
        values *= 1 + 0.06 * smooth_field(body, 25, rng)
        values = gaussian_filter(values, (0.6, 0.6, 0)) ** np.float32(gamma) * bias
        # The magnitude of a complex signal: noise is Rician, never below zero.
        real, imaginary = rng.normal(0, noise, (2, *values.shape)).astype(np.float32)
        yield phase, np.round(gain * np.hypot(values + real, imaginary)).astype(np.int16), label


def _backdrop(body: Array, signal: dict[str, float], rng: np.random.Generator) -> Array:
    """The chest without the heart, in a short-axis view: the liver below the right ventricle, bowel below the left."""
    far = float("inf")
    values = np.full(body.shape[1:], signal["lung"], np.float32)
    for x, y in rng.uniform((20, -60), (85, 50), (12, 2)):  # vessels of the left lung
        values[ellipsoid(body, (x, y, rng.uniform(-50, 50)), (3, 3, 20))] = signal["blood"]
    values[ellipsoid(body, (20, 78, 0), (100, 38, far))] = signal["fat"]
    for x, y in rng.uniform((0, 45), (85, 95), (14, 2)):  # stomach, spleen and bowel, of any brightness
        width, height, depth = rng.uniform((8, 6, 20), (20, 14, 50))
        turned, brightness = rng.uniform(-60, 60), rng.uniform(0.15, 0.8)
        values[ellipsoid(body, (x, y, rng.uniform(-50, 50)), (width, height, depth), turned)] = brightness
    values[ellipsoid(body, (-48, 66, 10), (70, 42, 90))] = signal["liver"]
    for x, y in rng.uniform((-90, 40), (0, 85), (8, 2)):  # vessels of the liver
        values[ellipsoid(body, (x, y, rng.uniform(-50, 50)), (4, 2.5, 25), rng.uniform(0, 180))] = signal["vein"]
    values[ellipsoid(body, (66, 38, 0), (11, 11, far))] = signal["blood"]  # descending aorta
    for tissue, width, height in (("muscle", 96, 88), ("fat", 106, 97), ("air", 122, 112)):
        values[~ellipsoid(body, (0, 5, 0), (width, height, far))] = signal[tissue]
    return values


def _paint(
    heart: Array, ventricles: Ventricles, values: Array, fat: NDArray[np.bool_], signal: dict[str, float]
) -> tuple[Array, NDArray[np.uint8]]:
    """Draw the heart into `values` and return it with its label."""
    way = (heart[2] - np.float32(ventricles.base)) / np.float32(ventricles.length)  # 0 at the base, 1 at the apex
    within = (way >= 0) & (way < 1)

    def taper(end: float) -> Array:
        return np.sqrt(np.clip(1 - (np.clip(way, 0, None) / np.float32(end)) ** 2, 0, None))

    x, y = heart[:2]
    outer = ventricles.outer * taper(1.0)
    right = taper(RIGHT_END)

    def right_side(margin: float) -> NDArray[np.bool_]:
        width, height = (extent * right + margin for extent in (ventricles.right_width, ventricles.right_height))
        inside = ((x + outer) * height) ** 2 + ((y + 0.1 * height) * width) ** 2 < (width * height) ** 2
        return (right > 0) & inside

    squared = x**2 + y**2
    muscle = squared < outer**2
    left_blood = squared < (ventricles.cavity * taper(CAVITY_END)) ** 2
    right_blood = right_side(0) & ~muscle
    values[((squared < (outer + 6) ** 2) | right_side(8)) & fat & within] = signal["fat"]
    values[(right_side(3) | muscle) & within] = signal["muscle"]
    values[(left_blood | right_blood) & within] = signal["blood"]
    # Above the base lie the atria: blood that belongs to no class, without a thick wall.
    atria = (way < 0) & (way > -0.3)
    values[(right_side(-2) | (squared < (0.9 * outer) ** 2)) & atria] = signal["blood"]
    values[np.abs(squared - outer**2) < 3 * outer * atria] = signal["muscle"]
    # Papillary muscles are dark and belong to the left ventricle in ACDC's labels.
    for angle in (0.7, -1.9):
        reach = 0.62 * ventricles.cavity
        papillary = (x - reach * np.cos(angle)) ** 2 + (y - reach * np.sin(angle)) ** 2 < (0.2 * ventricles.cavity) ** 2
        values[papillary & left_blood & (way > 0.25) & (way < 0.7)] = signal["muscle"]
    label = np.zeros(values.shape, np.uint8)
    label[right_blood & within] = RIGHT_VENTRICLE
    label[muscle & within] = MYOCARDIUM
    label[left_blood & within] = LEFT_VENTRICLE
    return values, label
