"""What there is to segment in a file or folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import UserError, first_few
from scripts.files import read_json

if TYPE_CHECKING:
    from ..dicom.reading import Series

NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Case:
    """One image or series.

    name: of its folder of results; the same every time.
    image: the NIfTI file, or None for a series.
    series: the DICOM series, or None for a file.
    """

    name: str
    image: Path | None = None
    series: Series | None = None

    @property
    def source(self) -> str:
        """What the results are of."""
        return str(self.image) if self.image is not None else str(self.series)

    @property
    def identity(self) -> str:
        """What tells its content from that of another of the same name: the file's SHA-256, or the series' UID."""
        from scripts.files import sha256

        if self.image is not None:
            return sha256(self.image)
        assert self.series is not None
        return self.series.uid


def modality_of(bundle: Path, settings: Sequence[str] = ()) -> str:
    """What the bundle takes: as the user sets it (KEY=VALUE), where it takes several, else as its metadata say."""
    chosen = dict(word.split("=", 1) for word in settings if "=" in word).get("modality")
    metadata = read_json(bundle / "configs" / "metadata.json", "bundle's metadata")
    return chosen or str(metadata["network_data_format"]["inputs"]["image"]["modality"])


def find_cases(source: Path, output: Path, modality: str, uid: str | None) -> list[Case]:
    """The NIfTI images and the suitable DICOM series of a folder and its sub-folders, or of one file.

    Args:
        source: a NIfTI file, a DICOM file, a folder of either, or one with a datalist.json.
        output: folder of results; what lies in it is not segmented.
        modality: "CT" or "MR": which series are suitable (see `dicom.choosing`).
        uid: SeriesInstanceUID of the only series wanted.

    Raises:
        UserError: nothing to segment, or two files whose results would have one name.
    """
    if not source.exists():
        raise UserError(f"{source}: expected a file or a folder, found neither; check the path")
    images = [] if uid else _images(source, output)
    odd = [ascii(path.name) for path in images if not path.name.isprintable()]
    if odd:
        raise UserError(f"{source}: expected names of printable characters, found {first_few(odd)}; rename the files")
    cases = [Case(_safe(_stem(path, source)), image=path) for path in images]
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{source}: expected names that differ, found several images of the name {', '.join(twice)}")
    if not cases or source.is_dir():
        cases += _series_cases(source, modality, uid, needed=not cases)
    return cases


def _images(source: Path, output: Path) -> list[Path]:
    from scripts.inference.images import find_images

    if source.is_file():
        return [source] if source.name.lower().endswith(NIFTI) else []
    if (source / "datalist.json").is_file():
        return [Path(item["image"]) for item in find_images(source)]
    found = (path for path in source.rglob("*") if path.name.lower().endswith(NIFTI))
    own = [path for path in found if not path.is_relative_to(output)]
    return sorted(path for path in own if not path.name.split(".")[0].endswith(("_gt", "_seg")))


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


def _stem(path: Path, source: Path) -> str:
    relative = path.relative_to(source) if source.is_dir() and path.is_relative_to(source) else Path(path.name)
    return re.sub(r"\.nii(\.gz)?$", "", "_".join(relative.parts), flags=re.IGNORECASE)


def _safe(name: str) -> str:
    """A name for a folder, whatever a patient's id holds."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "case"
