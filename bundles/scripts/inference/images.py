"""Images to infer on: which there are, and loading them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset as MonaiDataset
from monai.transforms import Compose

from ..data.checks import check_modality, intensity_fault, nifti_fault, reading
from ..data.datalists import read_datalist
from ..errors import UserError, first_line


class ImageDataset(MonaiDataset):
    """Images to infer on, one by one; a file that cannot be used is named in one line.

    Args:
        data: items {image_key: path} (see `find_images`), or paths, as MONAI's model zoo lists them.
        transform: the preprocessing; its first part loads the image.
        image_key: key of the image.
        modality: "CT" makes sure that an image holds Hounsfield units; None takes any numbers.
        one_spacing: whether pixdim and affine of a NIfTI header have to agree (see `checks.nifti_fault`).

    Raises:
        UserError: a list of anything else, or paths without a volume of three axes (all of them in one message).
    """

    def __init__(
        self,
        data: Sequence[dict[str, str] | str | Path],
        transform: Compose,
        image_key: str = "image",
        modality: str | None = None,
        one_spacing: bool = False,
    ) -> None:
        super().__init__(_items(data, image_key), transform)
        self.image_key, self.modality, self.one_spacing = image_key, modality, one_spacing

    def _transform(self, index: int) -> Any:
        path = self.data[index][self.image_key]
        if fault := nifti_fault(Path(path), self.one_spacing):
            raise UserError(f"{path}: {fault}")
        with reading(Path(path)):
            try:
                item = self.transform(dict(self.data[index]), end=1)  # the first transform loads
            except Exception as error:  # each reader and decompressor raises its own
                reason = first_line(error.__cause__ or error)
                raise UserError(f"{path}: expected a readable image, found: {reason}; replace the file") from None
        if fault := intensity_fault(item[self.image_key]):
            raise UserError(f"{path}: {fault}")
        check_modality(item[self.image_key], self.modality, path)
        return self.transform(item, start=1)


def find_images(source: str | Path | int, image_key: str = "image") -> list[dict[str, str]]:
    """The images to infer on: every NIfTI file of a folder, one file, or the images of a datalist.

    Args:
        source: a folder that holds a datalist.json or, at any depth, NIfTI files (labels named *_gt and earlier
            results named *_seg are passed over); or one NIfTI file.
        image_key: key of the path in each item.

    Returns:
        Items {image_key: path}, sorted by path.

    Raises:
        UserError: nothing found, or files that are no volumes of three axes (all of them in one message).
    """
    source = Path(str(source))  # a command line makes a number of a name like 2024
    if (source / "datalist.json").is_file():
        cases = read_datalist(source / "datalist.json")["cases"]
        paths = [source.resolve() / case["image"] for case in cases]
    elif source.is_file():
        paths = [source]
    else:
        names = (p for pattern in ("*.nii", "*.nii.gz") for p in source.rglob(pattern))
        paths = [p for p in names if not p.name.split(".")[0].endswith(("_gt", "_seg"))]
    if not paths:
        raise UserError(f"{source}: expected NIfTI images (*.nii, *.nii.gz), found none; check `dataset_dir`")
    _expect_volumes(sorted(paths))
    return [{image_key: str(path)} for path in sorted(paths)]


def _items(data: Sequence[dict[str, str] | str | Path], image_key: str) -> list[dict[str, str]]:
    """The list as items {image_key: path}."""
    if not isinstance(data, list | tuple):
        raise UserError(f"datalist: expected a list of images, found {data!r}; use `dataset_dir` for a folder or file")
    items = [{image_key: str(item)} if isinstance(item, str | Path) else item for item in data]
    without = [item for item in items if not isinstance(item, dict) or image_key not in item]
    if without:
        raise UserError(f"datalist: expected paths, or items with a path at {image_key!r}, found {without[0]!r}")
    _expect_volumes(Path(item) for item in data if isinstance(item, str | Path))  # the header of others is known
    return items


def _expect_volumes(paths: Iterable[Path]) -> None:
    faults = [f"{path}: {fault}" for path in paths if (fault := nifti_fault(path))]
    if faults:
        raise UserError("; ".join(faults))
