"""The augmentation of nnU-Net, made of MONAI's transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotated,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
    RandZoomd,
)

DEGREES = 30.0  # of a volume's rotation about each axis; slices turn in `RandTurnOrRotated`
NOISE = 0.025  # largest standard deviation: 0.1 of intensities whose own deviation is 1, which is about a quarter here
LINEAR = {2: "bilinear", 3: "trilinear"}


def strong_augmentation(spatial_dims: int, mirror_axes: Sequence[int] = ()) -> Compose:
    """What nnU-Net's trainer does to a patch, with its probabilities and ranges, in its order.

    Other than there, brightness and contrast are drawn uniformly from their range, and what a rotation or a smaller
    scale brings in from outside of the patch is 0 in the image and in the label. Slices are turned and flipped by the
    bundle's own transform before this one, and not rotated again.

    Args:
        spatial_dims: 2 or 3.
        mirror_axes: axes of a volume that may be flipped, 0 for the first.

    Returns:
        A transform of an item with "image" [C, *spatial], of intensities from 0 to 1, and, where there is one, "label".
    """
    angle, linear = math.radians(DEGREES), LINEAR[spatial_dims]
    both: dict[str, Any] = {"keys": ("image", "label"), "allow_missing_keys": True}
    modes: dict[str, Any] = {"mode": ("bilinear", "nearest"), "padding_mode": "zeros"}
    rotation = RandRotated(**both, **modes, prob=0.2, range_x=angle, range_y=angle, range_z=angle)
    modes = {"mode": (linear, "nearest"), "padding_mode": "constant"}
    zoom = RandZoomd(**both, **modes, prob=0.2, min_zoom=1 / 1.4, max_zoom=1 / 0.7, align_corners=(True, None))
    sigma = (0.5, 1.0)
    return Compose(
        [
            *([rotation] if spatial_dims == 3 else []),
            zoom,
            RandGaussianNoised("image", prob=0.1, std=NOISE),
            RandGaussianSmoothd("image", prob=0.1, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
            RandScaleIntensityd("image", prob=0.15, factors=0.25),
            RandScaleIntensityFixedMeand("image", prob=0.15, factors=0.25, preserve_range=True),
            RandSimulateLowResolutiond(
                "image", prob=0.125, zoom_range=(0.5, 1.0), upsample_mode=linear, align_corners=True
            ),
            RandAdjustContrastd("image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            *(RandFlipd(**both, prob=0.5, spatial_axis=axis) for axis in mirror_axes),
        ]
    )
