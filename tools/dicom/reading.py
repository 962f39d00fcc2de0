"""The series in a folder, their headers and their pixels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, generate_uid

from scripts.errors import UserError, first_few, first_line, printable

logger = logging.getLogger(__name__)

# What a first look at every file of a folder reads.
FIRST_LOOK = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("Modality", "ImageType", "PatientID", "ImageOrientationPatient", "Rows", "Columns", "NumberOfFrames"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


@dataclass(frozen=True)
class Series:
    """The files of one series, sorted by name.

    uid: its SeriesInstanceUID; one made from its images where the files have none.
    heads: of each file, the attributes of FIRST_LOOK.
    damaged: files of the same folders that begin like DICOM and cannot be read on: any series there may lack them.
    """

    uid: str
    files: list[Path] = field(default_factory=list)
    heads: list[Dataset] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)

    def get(self, keyword: str) -> str:
        """An attribute of the first image, as text; "" where it is absent."""
        value = self.heads[0].get(keyword)
        return "" if value is None else str(value).strip()

    @property
    def number_of_frames(self) -> int:
        """Frames of all its images."""
        return sum(int(head.get("NumberOfFrames") or 1) for head in self.heads)

    def __str__(self) -> str:
        return f"series {printable(self.uid)} ({printable(self.get('SeriesDescription')) or 'no description'})"


def find_series(folder: Path) -> list[Series]:
    """The image series of a folder and its sub-folders, sorted by UID; files that are no DICOM are passed over."""
    images: dict[tuple[str, ...], list[tuple[Path, Dataset]]] = {}
    damaged: list[Path] = []
    passed_over = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            head = _read(path, stop_before_pixels=True, specific_tags=FIRST_LOOK)
            kind = UID(str(head.SOPClassUID)).name
        except InvalidDicomError:
            passed_over += 1
            continue
        except Exception:  # pydicom raises whatever the damage leads to
            damaged.append(path)
            continue
        if kind and "Image Storage" not in kind:
            continue  # reports, presentation states, the index of a medium
        if not kind or not _is_sound(head):
            damaged.append(path)
            continue
        # Where anonymisation has emptied the UID, a series is what lies in one folder under one description.
        uid = str(head.get("SeriesInstanceUID") or "")
        key = (
            [uid]
            if uid
            else [uid, str(path.parent), *(str(head.get(k)) for k in ("SeriesNumber", "SeriesDescription"))]
        )
        images.setdefault(tuple(key), []).append((path, head))
    if passed_over and images:
        logger.info("%s: passed over %d files that are no DICOM", folder, passed_over)
    return sorted((_series(key[0], found, damaged) for key, found in images.items()), key=lambda series: series.uid)


def _is_sound(head: Dataset) -> bool:
    """Whether it says in whole numbers how large the image is; pydicom reads a value only when it is asked for."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of text that is too long or has control characters
            for keyword in FIRST_LOOK:
                str(head.get(keyword))
            return min(int(head.Rows), int(head.Columns), int(head.get("NumberOfFrames") or 1)) > 0
    except Exception:  # whatever pydicom makes of the value
        return False


def _series(uid: str, images: list[tuple[Path, Dataset]], damaged: Sequence[Path]) -> Series:
    files, heads = [path for path, _ in images], [head for _, head in images]
    folders = {path.parent for path in files}
    nearby = [path for path in damaged if path.parent in folders]
    return Series(uid or _made_up_uid("series", heads), files, heads, nearby)


def _made_up_uid(what: str, heads: Sequence[Dataset]) -> str:
    """The same UID for the same images every time."""
    return str(generate_uid(entropy_srcs=[what, *sorted(str(head.SOPInstanceUID) for head in heads)]))


def _read(path: Path, **how: Any) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that break a rule of DICOM's; those that matter are checked
        data = pydicom.dcmread(path, **how)
    # Some exports empty these in the data set; the file's own header still has them.
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not data.get(keyword):
            setattr(data, keyword, UID(data.file_meta.get(f"MediaStorage{keyword}", "")))
    return data


def read_headers(series: Series) -> list[Dataset]:
    """All attributes but the pixels of each image of a series, in the order of its files; its UIDs are never empty.

    Raises:
        UserError: damaged files beside it.
    """
    if series.damaged:
        names = first_few([path.name for path in series.damaged], 3)
        raise UserError(
            f"{series}: expected readable files only, found damaged ones beside it ({names} in "
            f"{series.damaged[0].parent}); export the series again, or remove files that are not part of it"
        )
    headers = []
    for path in series.files:
        try:
            header = _read(path, stop_before_pixels=True)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                str(header.get(keyword))  # pydicom reads a value only when it is asked for
            headers.append(header)
        except Exception as error:
            raise UserError(
                f"{series}: expected a readable header in {path}, found: {first_line(error)}; export the series again"
            ) from None
    if not headers[0].get("StudyInstanceUID"):
        logger.warning("%s: has no StudyInstanceUID; a new one is made, so an archive will not file its result", series)
        study = _made_up_uid("study", headers)
        for header in headers:
            header.add_new("StudyInstanceUID", "UI", study)
    for header in headers:
        header.add_new("SeriesInstanceUID", "UI", series.uid)  # whatever kind of value it had
    return headers


def read_pixels(series: Series, index: int) -> NDArray[Any]:
    """The stored values of image `index` of a series, [frames, rows, columns], decompressed.

    Raises:
        UserError: a truncated file, or a compression that no installed decoder knows.
    """
    path = series.files[index]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = _read(path)
            values: NDArray[Any] = data.pixel_array
    except Exception as error:  # each decoder raises its own
        syntax = printable(_syntax(path))
        raise UserError(
            f"{series}: expected readable pixels ({syntax}) in {path}, found: {first_line(error)}; "
            "export the series again, uncompressed if its compression is what cannot be read"
        ) from None
    return values if values.ndim == 3 else values[np.newaxis]


def _syntax(path: Path) -> str:
    """The name of a file's transfer syntax; "unknown" where it says none."""
    try:
        return UID(str(_read(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)).name or "unknown"
    except Exception:
        return "unknown"
