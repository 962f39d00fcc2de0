"""Transforms that MONAI lacks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import (
    LoadImage,
    MapTransform,
    NormalizeIntensity,
    RandomizableTransform,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    SpatialPadd,
    Transform,
)
from torch.nn.functional import affine_grid, grid_sample

from ..errors import UserError, first_line
from .channels import check_intensities, count_fault, expect_grid, files_of, joined
from .checks import NIFTI, nifti_fault, reading

logger = logging.getLogger(__name__)


class LoadCased(MapTransform):
    """Load "image" and, where the item has one, "label", and check them once, before anything is computed.

    They become float32 MetaTensors with their affine, [C, *spatial] and [1, *spatial]. A "spacing" (mm per axis) in the
    item goes into their meta data; other keys pass through. The image is a file, or a list of one per channel.

    Args:
        num_classes: K; labels must hold whole numbers 0..K.
        spatial_dims: axes that a volume must have (a stack of 2D slices has three).
        modality: what an item without a "modality" of its own is taken for. "CT" makes sure that an image holds
            Hounsfield units; None takes any numbers.
        one_spacing: whether pixdim and affine of a NIfTI header have to agree (see `checks.nifti_fault`).
        in_channels: C. Several lie in a file each, or in one along its last axis; their modality is not checked.

    Raises:
        UserError: a file that is missing, truncated or not an image; a wrong number of axes or channels; an affine that
            cannot be used; NaN or infinity; an image of one grey value or of another modality; a label or a channel of
            another shape or place than its image, or a label with other values.

    Example:
        >>> item = LoadCased(num_classes=2)({"image": "image.nii.gz", "label": "label.nii.gz"})
        >>> tuple(item["image"].shape), item["label"].unique().tolist()
        ((1, 8, 8, 4), [0.0, 1.0, 2.0])
    """

    def __init__(
        self,
        num_classes: int,
        spatial_dims: int = 3,
        modality: str | None = None,
        one_spacing: bool = False,
        in_channels: int = 1,
    ) -> None:
        super().__init__(("image", "label"), allow_missing_keys=True)
        self.in_channels = in_channels
        self.modality, self.one_spacing = modality, one_spacing
        self.num_classes = num_classes
        self.spatial_dims = spatial_dims
        self.load = LoadImage(image_only=True, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """{"image": path or a list of them, "label": path} to the same with tensors."""
        item, files = dict(data), files_of(data["image"])
        item["image"] = self._read_image(files)
        if "label" in item:
            item["label"] = self._read(str(data["label"]))
        for key in self.key_iterator(item):
            if "spacing" in item:  # some published files carry it in a header field that their affine contradicts
                item[key].meta["spacing"] = item["spacing"]
        if self.modality is not None:
            item.setdefault("modality", self.modality)
        check_intensities(item["image"], files, item.get("modality"))
        if "label" in item:
            self._check_label(item["image"], item["label"], str(data["label"]))
        return item

    def _read_image(self, files: Sequence[str]) -> MetaTensor:
        if fault := count_fault(files, self.in_channels):
            raise UserError(f"{files[0]}: {fault}")
        own = self.in_channels if len(files) == 1 else 1
        return joined([self._read(file, own) for file in files], files)

    def _read(self, path: str, channels: int = 1) -> MetaTensor:
        is_volume = self.spatial_dims == 3 and path.lower().endswith(NIFTI)
        if is_volume and (fault := nifti_fault(Path(path), self.one_spacing, channels)):
            raise UserError(f"{path}: {fault}")
        with reading(Path(path)):
            try:
                image: MetaTensor = self.load(path)
            except Exception as error:  # each reader and decompressor raises its own
                reason = first_line(error.__cause__ or error)
                raise UserError(f"{path}: expected a readable image, found: {reason}; replace the file") from None
        # MONAI's readers take a fourth axis for channels.
        shape = tuple(image.shape[1:]) if len(image) == channels else (*image.shape[1:], len(image))
        if len(shape) != self.spatial_dims:
            raise UserError(
                f"{path}: expected an image of {self.spatial_dims} axes, found shape {shape}; "
                "convert 2D or 4D files to one volume each"
            )
        return image

    def _check_label(self, image: MetaTensor, label: MetaTensor, path: str) -> None:
        expect_grid(label, image, path, "its image", "resample the label onto the image's grid")
        wrong = [v for v in label.unique().tolist() if v not in range(self.num_classes + 1)]
        if wrong:
            raise UserError(
                f"{path}: expected label values 0..{self.num_classes}, found {', '.join(f'{v:g}' for v in wrong[:8])}; "
                "correct the label or `num_classes`"
            )


class PadToPatchd(SpatialPadd):
    """MONAI's SpatialPadd that says so where a volume is smaller than the patch; zeros are air and background."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """The item with all its volumes at least as large as the patch."""
        padded: dict[Hashable, Any] = super().__call__(data, lazy)
        before, after = data["image"].shape[1:], padded["image"].shape[1:]
        if before != after:
            name = data["image"].meta.get("filename_or_obj", "a volume")
            logger.warning("%s: padded from %s to %s voxels to hold a patch", name, tuple(before), tuple(after))
        return padded


class ScaleIntensityByModalityd(MapTransform):
    """Scale "image", each channel for itself, in one of the ways of `SCALINGS`; MR may have a way of its own.

    Args:
        scaling: "window": the values of `window` become 0 and 1, what lies outside is clipped; "percentiles": those of
            the channel's 0.5 and 99.5 percentiles; "range": its lowest and highest; "zscore": mean 0, deviation 1.
        window: two values, such as Hounsfield units.
        mr_scaling: how an item whose "modality" is MR is scaled; None: as all are.

    Example:
        >>> scale = ScaleIntensityByModalityd("window", (-100, 300))
        >>> scale({"image": torch.tensor([[-1000.0, 100.0, 300.0]])})["image"].tolist()
        [[0.0, 0.5, 1.0]]
    """

    SCALINGS: Mapping[str, Callable[[Sequence[float]], Transform]] = {
        "window": lambda window: ScaleIntensityRange(window[0], window[1], 0.0, 1.0, clip=True),
        "percentiles": lambda _: ScaleIntensityRangePercentiles(0.5, 99.5, 0.0, 1.0, clip=True, channel_wise=True),
        "range": lambda _: ScaleIntensity(channel_wise=True),
        "zscore": lambda _: NormalizeIntensity(channel_wise=True),
    }

    def __init__(self, scaling: str, window: Sequence[float], mr_scaling: str | None = None) -> None:
        super().__init__("image")
        for name in (scaling, mr_scaling or scaling):
            if name not in self.SCALINGS:
                raise UserError(f"scaling: expected one of {', '.join(self.SCALINGS)}, found {name!r}")
        self.scale, self.scale_mr = (self.SCALINGS[name](window) for name in (scaling, mr_scaling or scaling))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its image scaled."""
        scale = self.scale_mr if data.get("modality") == "MR" else self.scale
        return {**data, "image": scale(data["image"])}


class RandTurnOrRotated(RandomizableTransform, MapTransform):
    """Turn slices by 90, 180 or 270 degrees and flip every other one, or else rotate them a little; half of them each.

    Slices that are not square keep their shape, so that a batch holds them all: they are turned by 180 degrees only.

    What MONAI's OneOf, RandRotate90d, RandFlipd and RandRotated do, in a fifth of the time: with them, the smallest
    training step waits for its data (docs/results/performance-log.md). The image's border continues outside of it.

    Args:
        keys: of the [C, H, W] tensors that move together.
        degrees: the largest rotation, to either side.
        mode: "bilinear" or "nearest", for each key.
        flips: False keeps left and right apart, where classes are named by them.
        allow_missing_keys: leave out keys that an item does not have.

    Example:
        >>> move = RandTurnOrRotated(["image", "label"], degrees=20, mode=["bilinear", "nearest"])
        >>> moved = move.set_random_state(seed=0)({"image": torch.rand(1, 32, 32), "label": torch.ones(1, 32, 32)})
        >>> tuple(moved["image"].shape), moved["label"].unique().tolist()
        ((1, 32, 32), [1.0])
    """

    def __init__(
        self,
        keys: Sequence[str],
        degrees: float,
        mode: Sequence[str],
        flips: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        RandomizableTransform.__init__(self)
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.largest, self.mode, self.may_flip = math.radians(degrees), mode, flips

    def randomize(self, data: Any = None) -> None:
        """Draw all that may be needed."""
        self.rotates = self.R.rand() < 0.5
        self.angle = self.R.uniform(-self.largest, self.largest)
        self.turns = int(self.R.randint(1, 4))
        self.flips = self.R.rand() < 0.5 and self.may_flip

    def quarters(self, size: Sequence[int]) -> int:
        """Turns by 90 degrees of a slice of this height and width; one that is not square is turned by 180."""
        height, width = size
        return self.turns if height == width else 2

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """The item, moved; what was rotated is float32."""
        self.randomize()
        item, grid = dict(data), None
        for key, mode in self.key_iterator(item, self.mode):
            image = item[key]
            if self.rotates:
                if grid is None:
                    size = list(image.shape[1:])
                    grid = affine_grid(rotation(self.angle, size), [1, 1, *size], align_corners=False)
                item[key] = grid_sample(image[None].float(), grid, mode, "border", align_corners=False)[0]
            else:
                turned = image.rot90(self.quarters(image.shape[1:]), (1, 2))
                item[key] = turned.flip(1) if self.flips else turned
        return item


def rotation(angle: float, size: Sequence[int]) -> torch.Tensor:
    """The theta [1, 2, 3] of `affine_grid` that rotates a slice of this height and width by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    height, width = size
    # torch counts both axes from -1 to 1, whatever their lengths.
    return torch.tensor([[[cosine, sine * height / width, 0.0], [-sine * width / height, cosine, 0.0]]])
