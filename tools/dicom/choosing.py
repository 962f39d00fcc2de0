"""Which series of a folder are segmented."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from pydicom.uid import UID

from scripts.errors import UserError, first_few, first_line

from .frames import FrameHeader
from .reading import Series

logger = logging.getLogger(__name__)

LEAST_SLICES = {"CT": 10, "MR": 3}  # fewer are no study of an organ
AXIAL = 25  # degrees between a slice's normal and the body's axis


def choose(series: Sequence[Series], modality: str, where: str, uid: str | None = None) -> list[Series]:
    """The series to segment: the one that the user names, else every suitable one; the others are logged with why.

    Args:
        series: those of a folder.
        modality: "CT" or "MR", as the bundle takes.
        where: the folder, for the error.
        uid: SeriesInstanceUID of the one that the user wants. It need be neither axial nor original.

    Raises:
        UserError: none; the message says for each why not.
    """
    if not series:
        raise UserError(f"{where}: expected DICOM images, found none; check the path")
    if uid is not None:
        named = [s for s in series if s.uid == uid]
        if not named:
            known = first_few([f"{s.uid} ({s.get('SeriesDescription')})" for s in series], 8)
            raise UserError(f"--series: expected a series of {where}, found {uid}; there are {known}")
        series = named
    reasons = [why_not(s, modality, chosen=uid is not None) for s in series]
    suitable = [s for s, reason in zip(series, reasons, strict=True) if reason is None]
    unsuitable = [f"{s}: {reason}" for s, reason in zip(series, reasons, strict=True) if reason is not None]
    if not suitable:
        raise UserError(f"{where}: expected a series to segment, found none: {first_few(unsuitable, 8)}")
    for line in unsuitable:
        logger.info("passed over %s", line)
    return suitable


def why_not(series: Series, modality: str, chosen: bool = False) -> str | None:
    """Why a series is not one to segment, or None.

    Args:
        series: the series.
        modality: "CT" or "MR", as the bundle takes.
        chosen: by the user; then only what cannot work at all is a reason.
    """
    if series.get("Modality") != modality:
        return f"expected {modality}, found {series.get('Modality') or 'no modality'}"
    least = 2 if chosen else LEAST_SLICES.get(modality, 2)
    if series.number_of_frames < least:
        return f"expected at least {least} slices, found {series.number_of_frames}"
    if chosen:
        return None
    try:
        head = FrameHeader(series.heads[0], 0)
        image_type = {word.upper() for word in head.words("ImageType")}
        orientation = head.numbers("ImageOrientationPatient", "PlaneOrientationSequence", 6)
    except Exception as error:  # pydicom raises whatever a value leads to
        return f"expected attributes that can be read, found: {first_line(error)}"
    if "LOCALIZER" in image_type:
        return "expected slices, found a localiser"
    if "Secondary Capture" in UID(str(series.heads[0].SOPClassUID)).name or {"DERIVED", "SECONDARY"} <= image_type:
        return "expected original images, found derived secondary ones (name it with --series to take it)"
    if modality == "CT" and orientation is not None:
        normal = np.cross(orientation[:3], orientation[3:])
        if abs(normal[2]) < np.cos(np.radians(AXIAL)):
            return "expected axial slices, found another orientation (name it with --series to take it)"
    return None
