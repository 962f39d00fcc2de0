"""What there is to segment in a file or folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.data.channels import channel_files, files_of, group_files, without_number
from scripts.errors import UserError, first_few
from scripts.files import read_json

from ..common.trained import read_description, trained_settings
from .options import Options

if TYPE_CHECKING:
    from ..dicom.reading import Series

NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Case:
    """One image or series.

    name: of its folder of results; the same every time.
    image: the NIfTI file, or None for a series.
    series: the DICOM series, or None for a file.
    further: the files of the second channel and those that follow, if `image` is that of the first alone.
    """

    name: str
    image: Path | None = None
    series: Series | None = None
    further: tuple[Path, ...] = ()

    @property
    def source(self) -> str:
        """What the results are of."""
        return str(self.image) if self.image is not None else str(self.series)

    @property
    def identity(self) -> str:
        """What tells its content from that of another of the same name: the files' SHA-256, or the series' UID."""
        from scripts.files import sha256

        if self.image is not None:
            return " ".join(sha256(file) for file in (self.image, *self.further))
        assert self.series is not None
        return self.series.uid


def modality_of(bundle: Path, settings: Sequence[str] = ()) -> str:
    """What the bundle takes: as the user sets it (KEY=VALUE), where it takes several, else as its metadata say."""
    chosen = dict(word.split("=", 1) for word in settings if "=" in word).get("modality")
    metadata = read_json(bundle / "configs" / "metadata.json", "bundle's metadata")
    return chosen or str(metadata["network_data_format"]["inputs"]["image"]["modality"])


def channels_of(bundle: Path, options: Options) -> int:
    """How many channels an image has: as the user sets it, as the model was trained, or else as the bundle says."""
    chosen = dict(word.split("=", 1) for word in options.settings if "=" in word).get("in_channels", "")
    if chosen.isdecimal():  # anything else is refused where settings are checked
        return int(chosen)
    about = model_file(bundle, options.model).with_suffix(".json")
    own = read_json(bundle / "configs" / "inference.json", "bundle's config").get("in_channels", 1)
    trained = trained_settings(read_description(about)) if about.is_file() else {}
    return int(trained.get("in_channels", own if isinstance(own, int) else 1))


def model_file(bundle: Path, model: Path | None) -> Path:
    """The model.pt that the user names, itself or by its folder, else the bundle's own; whether there is one or not."""
    model = model or bundle / "models"
    return model / "model.pt" if model.is_dir() else model


def find_cases(source: Path, output: Path, modality: str, uid: str | None, channels: int = 1) -> list[Case]:
    """The NIfTI images and the suitable DICOM series of a folder and its sub-folders, or of one file.

    Args:
        source: a NIfTI file, a DICOM file, a folder of either, or one with a datalist.json.
        output: folder of results; what lies in it is not segmented.
        modality: "CT" or "MR": which series are suitable (see `dicom.choosing`).
        uid: SeriesInstanceUID of the only series wanted.
        channels: of an image; several lie in CASE_0000.nii.gz, CASE_0001.nii.gz and so on, in the files that a datalist
            names, or in one file along its fourth axis.

    Raises:
        UserError: nothing to segment, channels that are missing, DICOM where there are several, or two images whose
            results would have one name.
    """
    if not source.exists():
        raise UserError(f"{source}: expected a file or a folder, found neither; check the path")
    images = [] if uid else _images(source, output, channels)
    odd = [ascii(path.name) for files in images for path in files if not path.name.isprintable()]
    if odd:
        raise UserError(f"{source}: expected names of printable characters, found {first_few(odd)}; rename the files")
    cases = [Case(_safe(_stem(files, source)), image=files[0], further=tuple(files[1:])) for files in images]
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{source}: expected names that differ, found several images of the name {', '.join(twice)}")
    if not cases or source.is_dir():
        series = _series_cases(source, modality, uid, needed=not cases)
        if series and channels > 1:
            raise UserError(
                f"{source}: expected NIfTI images of {channels} channels (`in_channels`), found DICOM series, which "
                "have one; convert and register them, a file per channel: CASE_0000.nii.gz, CASE_0001.nii.gz and so on"
            )
        cases += series
    return cases


def _images(source: Path, output: Path, channels: int) -> list[list[Path]]:
    """The files of each image."""
    from scripts.inference.images import find_images

    if source.is_file():
        return [channel_files(source, channels)] if source.name.lower().endswith(NIFTI) else []
    if (source / "datalist.json").is_file():
        return [[*map(Path, files_of(item["image"]))] for item in find_images(source, in_channels=channels)]
    found = (path for path in source.rglob("*") if path.name.lower().endswith(NIFTI))
    own = [path for path in found if not path.is_relative_to(output)]
    return group_files((path for path in own if not path.name.split(".")[0].endswith(("_gt", "_seg"))), channels)


def _series_cases(source: Path, modality: str, uid: str | None, needed: bool) -> list[Case]:
    from ..dicom.choosing import choose
    from ..dicom.reading import find_series

    found = find_series(source)
    if not found and not needed:
        return []
    return [series_case(series) for series in choose(found, modality, str(source), uid)]


def series_case(series: Series) -> Case:
    """A DICOM series as a case."""
    return Case(_series_name(series), series=series)


def _series_name(series: Series) -> str:
    """Patient, number of the series, and some letters that tell apart what has the same."""
    parts: Sequence[str] = (series.get("PatientID") or "patient", f"series{series.get('SeriesNumber') or 0}")
    return _safe("_".join([*parts, hashlib.sha256(series.uid.encode()).hexdigest()[:6]]))


def _stem(files: Sequence[Path], source: Path) -> str:
    path = without_number(files[0]) if files[1:] else files[0]
    relative = path.relative_to(source) if source.is_dir() and path.is_relative_to(source) else Path(path.name)
    return re.sub(r"\.nii(\.gz)?$", "", "_".join(relative.parts), flags=re.IGNORECASE)


def _safe(name: str) -> str:
    """A name for a folder, whatever a patient's id holds."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "case"
