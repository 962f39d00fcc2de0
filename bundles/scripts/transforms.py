"""Transforms that MONAI lacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.transforms import LoadImage, MapTransform

from .errors import UserError, first_line


class LoadCased(MapTransform):
    """Load "image" and, where the item has one, "label", and check them once, before anything is computed.

    Both become [1, *spatial] float32 MetaTensors with their affine. A "spacing" (mm per axis) in the item goes into
    their meta data; other keys pass through.

    Args:
        num_classes: K; labels must hold whole numbers 0..K.
        spatial_dims: axes that a volume must have (a stack of 2D slices has three).

    Raises:
        UserError: a file that is missing, truncated or not an image; a wrong number of axes; NaN or infinity; a label
            of another shape than its image, or with other values.
    """

    def __init__(self, num_classes: int, spatial_dims: int = 3) -> None:
        super().__init__(("image", "label"), allow_missing_keys=True)
        self.num_classes = num_classes
        self.spatial_dims = spatial_dims
        self.load = LoadImage(image_only=True, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """{"image": path, "label": path} to the same with tensors."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._read(str(data[key]))
        for key in self.key_iterator(item):
            if "spacing" in item:  # some published files carry it in a header field that their affine contradicts
                item[key].meta["spacing"] = item["spacing"]  # type: ignore[attr-defined]
        if "label" in item:
            self._check_label(item["image"], item["label"], str(data["label"]))  # type: ignore[arg-type]
        return item

    def _read(self, path: str) -> torch.Tensor:
        try:
            image: torch.Tensor = self.load(path)
        except Exception as error:  # each reader and decompressor raises its own
            reason = first_line(error.__cause__ or error)
            raise UserError(f"{path}: expected a readable image, found: {reason}; replace the file") from None
        # MONAI's readers take a fourth axis for channels.
        shape = tuple(image.shape[1:]) if len(image) == 1 else (*image.shape[1:], len(image))
        if len(shape) != self.spatial_dims:
            raise UserError(
                f"{path}: expected an image of {self.spatial_dims} axes, found shape {shape}; "
                "convert 2D or 4D files to one volume each"
            )
        if not torch.isfinite(image).all():
            raise UserError(f"{path}: expected finite numbers, found NaN or infinity; repair or leave out the case")
        return image

    def _check_label(self, image: torch.Tensor, label: torch.Tensor, path: str) -> None:
        if image.shape[1:] != label.shape[1:]:
            raise UserError(
                f"{path}: expected the shape of its image {tuple(image.shape[1:])}, found {tuple(label.shape[1:])}; "
                "resample the label onto the image's grid"
            )
        wrong = [v for v in label.unique().tolist() if v not in range(self.num_classes + 1)]
        if wrong:
            raise UserError(
                f"{path}: expected label values 0..{self.num_classes}, found {', '.join(f'{v:g}' for v in wrong[:8])}; "
                "correct the label or `num_classes`"
            )
