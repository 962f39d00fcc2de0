"""Images to infer on: which there are, and loading them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset as MonaiDataset
from monai.data import MetaTensor
from monai.transforms import Compose

from ..data.channels import (
    Image,
    channel_files,
    check_intensities,
    files_of,
    group_files,
    image_faults,
    joined,
)
from ..data.checks import reading
from ..data.datalists import read_datalist
from ..errors import UserError, first_line

Item = dict[str, str | list[str]]


class ImageDataset(MonaiDataset):
    """Images to infer on, one by one; a file that cannot be used is named in one line.

    Args:
        data: items {image_key: path or a list of one per channel} (see `find_images`), or paths, as MONAI's model zoo
            lists them.
        transform: the preprocessing; its first part loads a file.
        image_key: key of the image.
        modality: "CT" makes sure that an image holds Hounsfield units; None takes any numbers.
        one_spacing: whether pixdim and affine of a NIfTI header have to agree (see `checks.nifti_fault`).
        in_channels: that each image has.

    Raises:
        UserError: a list of anything else, or paths without a volume of these channels (all of them in one message).
    """

    def __init__(
        self,
        data: Sequence[Item | str | Path],
        transform: Compose,
        image_key: str = "image",
        modality: str | None = None,
        one_spacing: bool = False,
        in_channels: int = 1,
    ) -> None:
        super().__init__(_items(data, image_key, in_channels), transform)
        self.image_key, self.modality = image_key, modality
        self.one_spacing, self.in_channels = one_spacing, in_channels

    def _transform(self, index: int) -> Any:
        item, files = dict(self.data[index]), files_of(self.data[index][self.image_key])
        if faults := image_faults(files, self.in_channels, self.one_spacing):
            raise UserError("; ".join(faults))
        item[self.image_key] = joined([self._load(item, file) for file in files], files)
        check_intensities(item[self.image_key], files, self.modality)
        return self.transform(item, start=1)

    def _load(self, item: Item, file: str) -> MetaTensor:
        """One file of an item, by the first transform."""
        with reading(Path(file)):
            try:
                image: MetaTensor = self.transform(item | {self.image_key: file}, end=1)[self.image_key]
            except Exception as error:  # each reader and decompressor raises its own
                reason = first_line(error.__cause__ or error)
                raise UserError(f"{file}: expected a readable image, found: {reason}; replace the file") from None
        return image


def find_images(source: str | Path | int, image_key: str = "image", in_channels: int = 1) -> list[Item]:
    """The images to infer on: every NIfTI file of a folder, one file, or the images of a datalist.

    Args:
        source: a folder that holds a datalist.json or, at any depth, NIfTI files (labels named *_gt and earlier
            results named *_seg are passed over); or one NIfTI file.
        image_key: key of the path in each item.
        in_channels: of each image; several lie in CASE_0000.nii.gz, CASE_0001.nii.gz and so on, in the files that the
            datalist names, or in one file along its fourth axis.

    Returns:
        Items {image_key: path, or a list of one per channel}, sorted by path.

    Raises:
        UserError: nothing found, channels that are missing, or files that are no volumes of three axes (all of them in
            one message).
    """
    source = Path(str(source))  # a command line makes a number of a name like 2024
    if (source / "datalist.json").is_file():
        cases = read_datalist(source / "datalist.json")["cases"]
        images = sorted([source.resolve() / file for file in files_of(case["image"])] for case in cases)
    elif source.is_file():
        images = [channel_files(source, in_channels)]
    else:
        names = (p for pattern in ("*.nii", "*.nii.gz") for p in source.rglob(pattern))
        images = group_files((p for p in names if not p.name.split(".")[0].endswith(("_gt", "_seg"))), in_channels)
    if not images:
        raise UserError(f"{source}: expected NIfTI images (*.nii, *.nii.gz), found none; check `dataset_dir`")
    _expect_volumes(images, in_channels)
    return [{image_key: [*map(str, files)] if files[1:] else str(files[0])} for files in images]


def _items(data: Sequence[Item | str | Path], image_key: str, in_channels: int) -> list[Item]:
    """The list as items {image_key: path}."""
    if not isinstance(data, list | tuple):
        raise UserError(f"datalist: expected a list of images, found {data!r}; use `dataset_dir` for a folder or file")
    items: list[Item] = [{image_key: str(item)} if isinstance(item, str | Path) else item for item in data]
    without = [item for item in items if not isinstance(item, dict) or image_key not in item]
    if without:
        raise UserError(f"datalist: expected paths, or items with a path at {image_key!r}, found {without[0]!r}")
    # The headers of others are known.
    _expect_volumes([item for item in data if isinstance(item, str | Path)], in_channels)
    return items


def _expect_volumes(images: Iterable[Image], in_channels: int) -> None:
    if faults := [fault for image in images for fault in image_faults(image, in_channels)]:
        raise UserError("; ".join(faults))
