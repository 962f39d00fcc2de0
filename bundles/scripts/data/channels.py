"""Images of several channels: a file for each on one grid, or a single file whose fourth axis holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, first_few
from .checks import LARGEST_SHIFT, Fault, check_modality, grid_shift, intensity_fault, nifti_fault

if TYPE_CHECKING:  # what only finds files starts without torch
    from monai.data import MetaTensor

Image = str | Path | Sequence[str | Path]  # a file, or one per channel
NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})(?P<ending>\.nii(\.gz)?)", re.IGNORECASE)  # as nnU-Net has it


def files_of(image: Image) -> list[str]:
    """The files of an image."""
    return [str(image)] if isinstance(image, str | Path) else [str(file) for file in image]


def without_number(path: Path) -> Path:
    """CASE.nii.gz of a channel's CASE_0000.nii.gz; another name as it is."""
    match = NUMBERED.fullmatch(path.name)
    return path.with_name(match["case"] + match["ending"]) if match else path


def group_files(paths: Iterable[Path], channels: int) -> list[list[Path]]:
    """The images that NIfTI files make: of several channels, CASE_0000, CASE_0001 and so on are one.

    Every other file is an image of its own, and so is a numbered one that holds all channels.

    Raises:
        UserError: cases that lack a channel, or have others; all of them in one message.
    """
    images, numbered = [], dict[Path, list[tuple[int, Path]]]()
    for path in sorted(paths):
        match = NUMBERED.fullmatch(path.name) if channels > 1 else None
        if match is None or nifti_fault(path, channels=channels) is None:
            images.append([path])
        else:
            numbered.setdefault(path.with_name(match["case"]), []).append((int(match["channel"]), path))
    odd = []
    for case, found in numbered.items():
        images.append([path for _, path in sorted(found)])
        if [channel for channel, _ in sorted(found)] != list(range(channels)):
            odd.append(f"{', '.join(f'_{channel:04d}' for channel, _ in sorted(found))} of {case}")
    if odd:
        expected = ", ".join(f"_{channel:04d}" for channel in range(channels))
        raise UserError(
            f"channels: expected {expected} of every case (`in_channels`), found {first_few(odd)}; add the files that "
            "are missing, or take these away"
        )
    return sorted(images)


def channel_files(path: Path, channels: int) -> list[Path]:
    """The files of the image that one file belongs to: those of all its channels, if its name has a channel's number.

    Raises:
        UserError: channels that are missing.
    """
    match = NUMBERED.fullmatch(path.name) if channels > 1 else None
    if match is None:
        return [path]
    others = (
        other
        for other in path.parent.iterdir()
        if (found := NUMBERED.fullmatch(other.name)) is not None and found["case"] == match["case"]
    )
    return next(files for files in group_files(others, channels) if path in files)


def count_fault(files: Sequence[str | Path], channels: int) -> Fault | None:
    """Whether the files of an image are several, and others than one per channel."""
    if len(files) in (1, channels):
        return None
    expected = f"{channels} channel{'s' if channels > 1 else ''} (`in_channels`)"
    return Fault(
        expected, f"{len(files)} files", "list one per channel, or set `in_channels` to what the network takes"
    )


def image_faults(image: Image, channels: int, one_spacing: bool = False) -> list[str]:
    """What keeps the files of an image from being used, by their number and their headers (see `nifti_fault`)."""
    files = files_of(image)
    if fault := count_fault(files, channels):
        return [f"{files[0]}: {fault}"]
    own = channels if len(files) == 1 else 1
    return [f"{file}: {fault}" for file in files if (fault := nifti_fault(Path(file), one_spacing, own))]


def joined(images: Sequence[MetaTensor], files: Sequence[str]) -> MetaTensor:
    """The channels [C, *spatial] of images [1, *spatial], with the meta data of the first; a single image as it is.

    Args:
        images: of one case.
        files: where each was read.

    Raises:
        UserError: channels of different grids.
    """
    from monai.data import MetaTensor
    from torch import cat

    first = images[0]
    if len(images) == 1:
        return first
    for image, file in zip(images[1:], files[1:], strict=True):
        expect_grid(image, first, file, "the first channel", "resample the channel onto the first one's grid")
    whole = MetaTensor(cat([image.as_tensor() for image in images]), meta=dict(first.meta))
    whole.meta["filename_or_obj"] = str(without_number(Path(files[0])))  # what results are named after
    return whole


def expect_grid(image: MetaTensor, other: MetaTensor, file: str, whose: str, fix: str) -> None:
    """Make sure that two images [C, *spatial] lie on one grid.

    Args:
        image, other: the two.
        file: that `image` was read from.
        whose: what `other` is to it.
        fix: what to do otherwise.

    Raises:
        UserError: other shapes, or affines that differ by more than rounding does.
    """
    if image.shape[1:] != other.shape[1:]:
        raise UserError(
            f"{file}: expected the shape of {whose} {tuple(other.shape[1:])}, found {tuple(image.shape[1:])}; {fix}"
        )
    shift = grid_shift(other.affine, image.affine, image.shape[1:])
    if shift > LARGEST_SHIFT:
        raise UserError(
            f"{file}: expected the affine of {whose}, found one that moves a corner by {shift:.4g} mm; {fix}, "
            "or correct its header"
        )


def check_intensities(image: MetaTensor, files: Sequence[str], modality: str | None) -> None:
    """Look at every channel for itself (see `intensity_fault`), and at the modality of an image that has only one.

    Raises:
        UserError: a channel that cannot be used, or that is not of the modality.
    """
    for number, channel in enumerate(image):
        name = files[number] if len(files) == len(image) else f"{files[0]}, channel {number}"
        if fault := intensity_fault(channel):
            raise UserError(f"{name}: {fault}")
    if len(image) == 1:  # each of several may be of a kind of its own
        check_modality(image, modality, files[0])
