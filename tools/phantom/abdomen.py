"""An abdominal CT with the 13 organs of Synapse (BTCV), their ids, and about their sizes, places and Hounsfield units.

Volumes, rounded from the median of real Synapse cases, are about (ml): liver 1600, stomach 450, spleen 250, kidneys 150
each, IVC 90, pancreas 85, aorta 75, portal and splenic veins 30, gallbladder 17, oesophagus 13, adrenals 4 each; hence
400 to 1 from the largest to the smallest. Around them lie what looks alike: heart, muscles, bowel, duodenum.
Axes point left (x), to the front (y) and up (z); the origin is the middle of the field of view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..prepare.layouts import synapse
from .shapes import Array, Mask, Triple, ellipsoid, grid, pose, smooth_field, tube

NAME = "Abdomen phantom"
MODALITY = "CT"
LABELS = synapse.LABELS
SIZE = (96, 96, 64)
SMALLEST = (48, 48, 32)
ORIENTATION = (-1, 1, 1)
FIELD_OF_VIEW = 352.0  # mm, in plane
HEIGHT = 240.0  # mm
FAR = float("inf")
AIR, LUNG, FAT, MUSCLE, BONE = -1000, -830, -100, 58, 320  # HU


@dataclass(frozen=True)
class Part:
    """One ellipsoid (`centre`, `semi_axes`, `turn` in degrees about z) or tube (`path`, `radii`) of an organ, in mm."""

    centre: Triple = (0, 0, 0)
    semi_axes: Triple = (0, 0, 0)
    turn: float = 0
    path: tuple[Triple, ...] = ()
    radii: tuple[float, ...] = ()

    def inside(self, points: Array) -> Mask:
        if self.path:
            return tube(points, self.path, self.radii)
        return ellipsoid(points, self.centre, self.semi_axes, self.turn)


@dataclass(frozen=True)
class Organ:
    """What an organ looks like: its class, its mean HU in the portal venous phase, and its parts.

    `enhancement` is how much of the HU varies with the contrast agent, `mobile` how far (mm) it strays from its place.
    """

    label: int
    hu: float
    enhancement: float
    mobile: float
    parts: tuple[Part, ...]


# In the order of drawing: what comes later covers what came before.
ORGANS = (
    Organ(6, 95, 35, 4, (
        Part((-72, 10, 28), (66, 78, 78)),
        Part((-10, 52, 42), (66, 36, 40), -12),
    )),
    Organ(7, 60, 40, 6, (
        Part(path=((58, -4, 58), (64, 22, 36), (48, 56, 2), (8, 64, -10)), radii=(34, 37, 29, 17)),
    )),
    Organ(1, 105, 45, 5, (Part((92, -30, 28), (29, 46, 60), 25),)),
    Organ(2, 135, 90, 5, (Part((-64, -36, -44), (24, 27, 56), -25),)),
    Organ(3, 135, 90, 5, (Part((64, -38, -32), (24, 27, 56), 25),)),
    Organ(11, 78, 40, 3, (
        Part(path=((-24, 30, -40), (-12, 36, -22), (22, 34, -8), (50, 10, 4), (74, -12, 14)),
             radii=(17, 15, 14, 13, 10)),
    )),
    Organ(4, 20, 0, 5, (Part((-60, 50, -26), (12, 16, 22), 15),)),
    Organ(9, 110, 60, 2, (
        Part(path=((-20, 22, 90), (-24, 8, 30), (-20, 0, -50), (-16, -6, -120)), radii=(12.5, 11.5, 11.5, 11)),
    )),
    Organ(8, 150, 110, 2, (
        Part(path=((14, -22, 120), (10, -12, 40), (4, -4, -50), (2, -4, -120)), radii=(11, 10.5, 10, 9)),
    )),
    Organ(5, 38, 10, 2, (Part(path=((4, 4, 120), (8, 6, 88), (24, 12, 66)), radii=(8.5, 8, 8)),)),
    Organ(10, 130, 80, 2, (
        Part(path=((-46, 30, 26), (-24, 26, 8), (-2, 22, -6)), radii=(8, 9, 9)),
        Part(path=((-2, 22, -6), (36, 14, 4), (80, -16, 18)), radii=(7, 5.5, 5)),
        Part(path=((-2, 22, -6), (0, 28, -44)), radii=(7, 6.5)),
    )),
    Organ(12, 45, 20, 2, (
        Part(path=((-34, -12, 22), (-38, -28, 16), (-42, -34, 8)), radii=(5, 5, 4)),
        Part(path=((-34, -12, 22), (-34, -18, 2)), radii=(5.2, 4.6)),
    )),
    Organ(13, 45, 20, 2, (
        Part(path=((34, -6, 16), (40, -20, 10), (46, -26, 2)), radii=(5, 5, 4)),
        Part(path=((34, -6, 16), (34, -14, -4)), radii=(5.2, 4.6)),
    )),
)  # fmt: skip


def spacing(size: Sequence[int]) -> tuple[float, float, float]:
    """Voxel spacing (mm): the same field of view at every size."""
    in_plane = round(FIELD_OF_VIEW / max(size[:2]), 4)
    return in_plane, in_plane, round(HEIGHT / size[2], 4)


def draw(size: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[None, NDArray[np.int16], NDArray[np.uint8]]]:
    """One random patient: (None, image in HU, label)."""
    points = grid(size, spacing(size))
    body = pose(points, rng, turn=(4, 4, 8), shift=(10, 10, 8), scale=0.08, bend=(4, 4, 4), wavelength=170)
    values, cavity = _backdrop(body, rng)
    label = np.zeros(values.shape, np.uint8)
    phase = rng.uniform(-0.35, 0.35)  # of the contrast agent
    for organ in ORGANS:
        inside = _moved(organ, body, rng) & cavity
        label[inside] = organ.label
        values[inside] = organ.hu + phase * organ.enhancement + rng.normal(0, 6)
    _fill_stomach(values, label == 7, body, rng)
    values[label > 0] += 6 * smooth_field(body, 25, rng)[label > 0]
    values = gaussian_filter(values, 0.5)
    values += gaussian_filter(rng.normal(0, 1, values.shape).astype(np.float32), 0.4) * np.float32(rng.uniform(12, 30))
    yield None, np.round(np.clip(values, -1024, 2000)).astype(np.int16), label


def _moved(organ: Organ, body: Array, rng: np.random.Generator) -> Mask:
    """Inside of an organ that is moved and scaled a little about its own centre."""
    anchors = [point for part in organ.parts for point in (part.path or (part.centre,))]
    centre = np.mean(anchors, axis=0) + rng.normal(0, organ.mobile, 3).clip(-2 * organ.mobile, 2 * organ.mobile)
    scale = np.exp(rng.normal(0, 0.06, 3).clip(-0.12, 0.12))
    own = ((body.T - centre) / scale + np.mean(anchors, axis=0)).T.astype(np.float32)
    inside = np.zeros(body.shape[1:], np.bool_)
    for part in organ.parts:
        inside |= part.inside(own)
    return inside


def _fill_stomach(values: Array, stomach: Mask, body: Array, rng: np.random.Generator) -> None:
    """Food or contrast agent within the stomach's wall, and gas in front: patients lie on their backs."""
    y = body[1]
    middle = float(np.median(y[stomach])) if stomach.any() else 0.0
    wall = gaussian_filter(stomach.astype(np.float32), 1.0) < 0.9
    values[stomach & ~wall] = rng.uniform(10, 160)
    values[stomach & ~wall & (y > middle + rng.uniform(8, 40))] = -600


def _backdrop(body: Array, rng: np.random.Generator) -> tuple[Array, Mask]:
    """The body without the 13 organs, and the space they may fill."""
    fat = rng.uniform(6, 22)  # mm under the skin
    values = np.full(body.shape[1:], AIR, np.float32)
    values[ellipsoid(body, (0, 0, 0), (142 + fat, 104 + fat, FAR))] = FAT
    values[ellipsoid(body, (0, 0, 0), (142, 104, FAR))] = MUSCLE
    cavity = ellipsoid(body, (0, 6, 0), (132, 90, FAR))
    values[cavity] = FAT
    for _ in range(24):  # bowel, with fluid, contrast agent or gas
        x, y, z = rng.uniform((-100, 0, -120), (100, 80, -30))
        part = Part((x, y, z), (rng.uniform(14, 24), rng.uniform(12, 18), rng.uniform(12, 30)), rng.uniform(0, 180))
        values[part.inside(body) & cavity] = rng.choice((25, 45, 70, 140, -400), p=(0.3, 0.3, 0.2, 0.1, 0.1))
    duodenum = ((-18, 60, -12), (-46, 40, -22), (-46, 22, -60), (4, 16, -72))
    values[tube(body, duodenum, (13, 12, 12, 11)) & cavity] = rng.uniform(30, 70)
    lungs = cavity & (body[2] > 40 + 0.004 * ((132 - np.abs(body[0])) ** 2 - 40**2).clip(0))
    values[lungs] = LUNG
    values[ellipsoid(body, (20, 34, 120), (58, 46, 40)) & cavity] = 130  # heart
    for side in (-1, 1):
        values[ellipsoid(body, (side * 36, -44, -80), (18, 20, 90))] = MUSCLE  # psoas
        values[ellipsoid(body, (side * 34, -78, 0), (30, 22, FAR))] = MUSCLE  # back
    spine = ellipsoid(body, (0, -46, 0), (22, 18, FAR)) | ellipsoid(body, (0, -74, 0), (8, 20, FAR))
    values[spine] = np.float32(150) + (BONE - 150) * (np.cos(2 * np.pi * body[2][spine] / 32) > 0)
    chest = ellipsoid(body, (0, 0, 0), (140, 102, FAR)) & ~ellipsoid(body, (0, 0, 0), (133, 95, FAR)) & (body[2] > -20)
    values[chest & (np.cos(2 * np.pi * (body[2] + body[1] / 3) / 30) > 0.5)] = BONE  # ribs
    return values, cavity & ~spine & (body[2] < 125)
