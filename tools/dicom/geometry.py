"""From frames to a stack: one grid whose place in the patient is known, or an error that says why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.errors import UserError, first_few

from .frames import Frame

SAME_PLACE = 0.01  # mm; positions are written with at least two decimals
SAME_DIRECTION = 1e-3  # of a unit vector's components
UNEVEN = 0.05  # of the slice spacing, that a slice may lie away from where even spacing would have it
TILT = 0.5  # degrees between the stack and its slices' normal
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Parallel slices at even distances, from the lowest to the highest along their normal.

    frames: the slices, in the order of the third axis.
    affine: voxel indices (column, row, slice) to mm, [4, 4], RAS+.
    """

    frames: list[Frame]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        rows, columns = self.frames[0].shape
        return columns, rows, len(self.frames)


def stack(frames: Sequence[Frame], name: str) -> Stack:
    """Order alike frames, no two of which lie at the same place (see `same_place`), and compute where they are.

    Raises:
        UserError: a single slice, a gap or uneven distances, a tilted gantry, slices that lie beside the others.
    """
    ordered = sorted(frames, key=lambda frame: frame.height)
    if len(ordered) < 2:
        raise UserError(
            f"{name}: expected a stack of slices, found a single one, whose thickness in space nobody knows; "
            "choose another series, or export it whole"
        )
    heights = np.array([frame.height for frame in ordered])
    _check_even(heights, name)
    step = (ordered[-1].position - ordered[0].position) / (len(ordered) - 1)
    _check_upright(step, ordered[0], name)
    line = ordered[0].position + np.arange(len(ordered))[:, None] * step
    aside = np.linalg.norm(np.array([frame.position for frame in ordered]) - line, axis=1)
    if aside.max() > max(UNEVEN * float(np.linalg.norm(step)), SAME_PLACE):
        raise UserError(
            f"{name}: expected slices on one straight line, found one {aside.max():.2f} mm beside it; "
            "export each stack as a series of its own"
        )
    first = ordered[0]
    lps = np.eye(4)
    lps[:3, 0] = first.row * first.spacing[1]
    lps[:3, 1] = first.column * first.spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return Stack(ordered, LPS_TO_RAS @ lps)


def same_place(frames: Sequence[Frame], name: str) -> list[list[Frame]]:
    """The frames in groups that lie at the same height, from the lowest to the highest.

    Raises:
        UserError: mixed sizes, pixel spacings or orientations.
    """
    _check_alike(frames, name)
    groups: list[list[Frame]] = []
    for frame in sorted(frames, key=lambda frame: frame.height):
        if groups and frame.height - groups[-1][0].height <= SAME_PLACE:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def _check_alike(frames: Sequence[Frame], name: str) -> None:
    first = frames[0]
    turned = [
        frame
        for frame in frames
        if max(np.abs(frame.row - first.row).max(), np.abs(frame.column - first.column).max()) > SAME_DIRECTION
    ]
    if turned:
        raise UserError(
            f"{name}: expected slices of one orientation, found {len(turned)} of {len(frames)} turned against the "
            "first; export each orientation as a series of its own"
        )
    for what, values in (
        ("size (rows, columns)", {frame.shape for frame in frames}),
        ("pixel spacing in mm", {tuple(round(mm, 4) for mm in frame.spacing) for frame in frames}),
    ):
        if len(values) > 1:
            raise UserError(f"{name}: expected slices of one {what}, found {sorted(values)}; export them separately")


def _check_even(heights: NDArray[np.float64], name: str) -> None:
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if usual <= SAME_PLACE:
        raise UserError(f"{name}: expected slices at different places, found most at the same one; choose another")
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() <= max(UNEVEN * usual, SAME_PLACE):
        return
    wide = [f"between {heights[i]:.2f} and {heights[i + 1]:.2f} mm" for i in np.flatnonzero(steps > 1.5 * usual)]
    if wide:
        raise UserError(
            f"{name}: expected a slice every {usual:.4g} mm, found gaps {first_few(wide, 3)} along the stack: slices "
            "are missing; export the series whole"
        )
    raise UserError(
        f"{name}: expected slices at even distances, found {steps.min():.4g} to {steps.max():.4g} mm; "
        "resample the series to even distances, or choose another"
    )


def _check_upright(step: NDArray[np.float64], frame: Frame, name: str) -> None:
    cosine = float(step @ frame.normal / np.linalg.norm(step))
    tilt = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if tilt > TILT:
        raise UserError(
            f"{name}: expected slices stacked along their normal, found them shifted by a gantry tilt of {tilt:.1f} "
            "degrees; correct the tilt (resample to upright slices) and try again"
        )
