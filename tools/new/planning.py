"""From a fingerprint to the settings of a bundle, each with the number behind it; nothing is read or measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import Any

from scripts.data.orientation import DIRECTIONS

from .fingerprint import Fingerprint

GRAIN = 16  # voxels; networks halve their maps four times
FEWEST_SLICES = 16  # of a volume: fewer do not fill the smallest patch
ANISOTROPIC, THICK = 3.0, 5.0  # spacing from slice to slice: times that within a slice, and mm
LARGEST_PATCH = {"cpu": 64, "cuda": 96}  # voxels of an edge
LARGEST_SLICE = {"cpu": 128, "cuda": 256}
ELONGATED = 1.5  # length to width, up to which slices are stretched to squares
SMALLEST = {2: 32, 3: 32}  # voxels of an edge, below which nothing shrinks
COVERS = 0.5  # of the median scan's extent, along each axis, that a patch has to see
FINER = 0.97  # a spacing shrinks in such steps
SMALLEST_CLASS = 64  # voxels that the smallest class shall have in the network's grid
LENGTH = {2: 1500, 3: 1000}  # steps where no time is given: the built-in bundles' on a CPU


@dataclass(frozen=True)
class Decision:
    """One line of plan.md: what was decided, why, and the override that changes it."""

    what: str
    value: str
    why: str
    override: str


@dataclass(frozen=True)
class Plan:
    """The settings of a bundle.

    dims: 2 for slices, 3 for volumes.
    size: image_size [2], or patch_size [3].
    preset: the settings of the bundle's own preset, without its length.
    settings: other top-level settings of train.json and inference.json.
    mirrored: whether images may be mirrored, in training and by the strong recipe's prediction.
    decisions: what was decided, for plan.md.
    """

    dims: int
    size: tuple[int, ...]
    preset: dict[str, Any]
    settings: dict[str, Any]
    mirrored: bool
    decisions: tuple[Decision, ...]


def plan(
    found: Fingerprint, modality: str, channels: Sequence[str], device: str, dims: int | None = None, largest: int = 0
) -> Plan:
    """Plan for a data set.

    Args:
        found: its fingerprint.
        modality: "CT" scales by a window, any other one by percentiles.
        channels: names of the images' channels.
        device: "cpu" or "cuda".
        dims: 2 or 3 as asked for; None decides.
        largest: edge in voxels that nothing may exceed; 0: by the device.
    """
    decisions: list[Decision] = []

    def decide(what: str, value: Any, why: str, override: str) -> Any:
        decisions.append(Decision(what, str(value), why, override))
        return value

    chosen, why = _dims(found)
    dims = decide("slices or volumes", dims or chosen, why if dims in (None, chosen) else "as asked for", "new --dims")
    settings: dict[str, Any] = {"in_channels": len(channels)}
    settings |= _scaling(found, modality, decide)
    sided = ", ".join(found.sided)
    mirrored = not found.sided
    why = f"left and right are classes ({sided})" if sided else "no class mirrors another, by their names"
    if dims == 2:
        size = _image_size(found, largest or LARGEST_SLICE[device], decide)
        preset: dict[str, Any] = {"image_size": list(size), "interpolation": "trilinear", "width": 16, "lr": 0.03}
        settings["flips"] = decide("flips", mirrored, why, "--flips True")
        axes = DIRECTIONS[found.slices] if found.sided and found.slices is not None else None
        settings["orientation"] = decide(
            "orientation", axes, f"slices along axis {found.slices} of right, front, head; null: found in each scan",
            "--orientation RAS",
        )  # fmt: skip
    else:
        size, spacing = _grid(found, largest or LARGEST_PATCH[device], decide)
        preset = {"spacing": list(spacing), "patch_size": list(size), "width": 8 if device == "cpu" else 16, "lr": 0.1}
        preset |= {"warmup": 100, "balanced_crops": True, "overlap": 0.5, "merge": "gaussian"}
        settings["flip_probability"] = decide("flips", 0.5 if mirrored else 0.0, why, "--flip_probability 0.5")
        settings["crop_foreground"] = decide(
            "crop to the body", modality == "CT", "air of CT is known", "--crop_foreground True"
        )
    decide(
        "width", preset["width"], "channels of the finest level, as the built-in bundles on this device", "--width 16"
    )
    decide("learning rate", preset["lr"], "that of the built-in bundles at this size", "--lr 0.01")
    return Plan(dims, size, preset, settings, mirrored, tuple(decisions))


def smaller(planned: Plan) -> int | None:
    """The next smaller edge in voxels, for less memory; None if there is none."""
    edge = max(planned.size) - GRAIN
    return edge if edge >= SMALLEST[planned.dims] else None


def _dims(found: Fingerprint) -> tuple[int, str]:
    axis = 2 if found.slices is None else found.slices
    between, within = found.spacing[axis], max(mm for i, mm in enumerate(found.spacing) if i != axis)
    count = found.shape[axis]
    if count < FEWEST_SLICES:
        return 2, f"{count:g} slices in the median scan, fewer than the {FEWEST_SLICES} of the smallest patch"
    if between >= THICK and between >= ANISOTROPIC * within:
        return 2, f"slices of {between:.3g} mm, {between / within:.2g} times the {within:.3g} mm within"
    return 3, f"{count:g} slices of {between:.3g} mm in the median scan, {within:.3g} mm within"


def _scaling(found: Fingerprint, modality: str, decide: Any) -> dict[str, Any]:
    low, high = found.foreground
    if modality == "CT":
        window = [float(round(low)), float(round(high))]
        why = "0.5 and 99.5 percentiles of the intensities under the labels, HU"
        decide("intensities", f"window {window[0]:g} to {window[1]:g}", why, '--window "[-100,300]"')
        return {"scaling": "window", "window": window}
    why = f"{modality} has no scale of its own: 0.5 and 99.5 percentiles of each image become 0 and 1"
    decide("intensities", "percentiles", why, "--scaling zscore")
    return {"scaling": "percentiles"}


def _image_size(found: Fingerprint, largest: int, decide: Any) -> tuple[int, ...]:
    axis = 2 if found.slices is None else found.slices
    plane = [n for i, n in enumerate(found.shape) if i != axis]
    edges = [max(plane)] * 2 if max(plane) <= ELONGATED * min(plane) else plane
    shrink = min(1.0, largest / max(plane))
    height, width = (max(SMALLEST[2], _grains(n * shrink)) for n in edges)
    why = f"{plane[0]:g} x {plane[1]:g} in the median scan, at most {largest} on this machine, multiples of {GRAIN}"
    why += "; square, so that slices can be turned by 90 degrees" if height == width else ""
    decide("image size", f"{height} x {width}", why, f'--image_size "[{height},{width}]"')
    return height, width


def _grid(found: Fingerprint, largest: int, decide: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Patch and spacing: as fine as the scans, and as coarse as needed for the patch to see enough of them."""
    pairs = [*zip(found.extent, found.spacing, strict=True)]
    patch = tuple(min(largest, max(SMALLEST[3], _grains(mm / own, ceil))) for mm, own in pairs)
    spacing = [max(own, COVERS * mm / n) for (mm, own), n in zip(pairs, patch, strict=True)]
    sizes = [one.millilitres * 1000 for one in found.classes.values() if one.millilitres]
    most = min(sizes, default=inf) / SMALLEST_CLASS  # mm3 of a voxel
    shrunk = prod(spacing) > most
    while prod(spacing) > most and any(mm > own for (_, own), mm in zip(pairs, spacing, strict=True)):
        spacing = [max(own, FINER * mm) for (_, own), mm in zip(pairs, spacing, strict=True)]
    spacing = [round(mm, 2) for mm in spacing]
    why = f"a patch sees {COVERS:.0%} of the median scan ({_listed(found.extent)} mm)"
    if shrunk:
        why = f"the smallest class ({min(sizes) / 1000:.3g} ml) shall have {SMALLEST_CLASS} voxels"
    decide(
        "patch", _listed(patch), f"at most {largest} on this machine", f'--patch_size "[{",".join(map(str, patch))}]"'
    )
    decide(
        "spacing", f"{_listed(spacing)} mm", f"{why}; never finer than the median, {_listed(found.spacing)} mm",
        '--spacing "[2,2,2]"',
    )  # fmt: skip
    return patch, tuple(spacing)


def _grains(voxels: float, rounded: Any = round) -> int:
    return max(1, int(rounded(voxels / GRAIN))) * GRAIN


def _listed(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
