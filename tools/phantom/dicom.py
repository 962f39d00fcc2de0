"""A made-up patient as a DICOM series, so that the way from a scanner's files to a DICOM SEG can be tried."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's axes to DICOM's
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
INTERCEPT = {"CT": -1024, "MR": 0}
DATE = "20260101"
BEAT = 400  # ms from one phase of a cine to the next


def write_series(
    folder: Path, volumes: Sequence[NDArray[np.int16]], affine: NDArray[np.float64], modality: str, patient: str
) -> None:
    """Write one image per slice and phase. The same patient gives the same bytes.

    Args:
        folder: to make; nothing may be in its place.
        volumes: [X, Y, Z], one per phase of a cine, or a single one.
        affine: voxel indices to mm, RAS+.
        modality: "CT" (values are Hounsfield units) or "MR".
        patient: PatientID; every UID follows from it and from the images.
    """
    folder.mkdir(parents=True)
    source = [patient, *(hashlib.sha256(volume.tobytes()).hexdigest() for volume in volumes)]
    lps = LPS @ affine
    number = 0
    for phase, volume in enumerate(volumes):
        for k in range(volume.shape[2]):
            number += 1
            image = _image(volume[:, :, k], lps, k, modality)
            image.SOPInstanceUID = _uid(source, f"image {number}")
            image.InstanceNumber = number
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                setattr(image, keyword, _uid(source, keyword))
            image.PatientName, image.PatientID = f"Phantom^{patient}", patient
            if len(volumes) > 1:
                image.TriggerTime = DSfloat(phase * BEAT)
            pydicom.dcmwrite(folder / f"image{number:04d}.dcm", image, enforce_file_format=True)


def _uid(source: Sequence[str], what: str) -> str:
    return generate_uid(entropy_srcs=[*source, what])


def _image(values: NDArray[np.int16], lps: NDArray[np.float64], k: int, modality: str) -> Dataset:
    """One slice, without what names patient, study and series."""
    across, down = (lps[:3, axis] / np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality = CLASSES[modality], modality
    image.ImagePositionPatient = _decimals((lps @ [0, 0, k, 1])[:3])
    image.ImageOrientationPatient = _decimals((*across, *down))
    image.PixelSpacing = _decimals(np.linalg.norm(lps[:3, axis]) for axis in (1, 0))
    (image.SliceThickness,) = _decimals([np.linalg.norm(lps[:3, 2])])
    image.Columns, image.Rows = values.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = (values.T - INTERCEPT[modality]).astype("<u2").tobytes()
    for keyword, value in (_COMMON | _OF_MODALITY[modality]).items():
        setattr(image, keyword, value)
    return image


_COMMON: dict[str, Any] = {
    **dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"), DATE),
    **dict.fromkeys(("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"), "120000"),
    **dict.fromkeys(("AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex"), ""),
    **{"StudyID": "1", "SeriesNumber": 1, "AcquisitionNumber": 1, "SeriesDescription": "phantom"},
    **{"Manufacturer": "dca-bundles phantom", "PatientPosition": "HFS", "PositionReferenceIndicator": ""},
}

_OF_MODALITY: dict[str, dict[str, Any]] = {
    "CT": {
        **{"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "BodyPartExamined": "ABDOMEN", "KVP": "120"},
        **{"RescaleSlope": 1, "RescaleIntercept": INTERCEPT["CT"], "RescaleType": "HU"},
    },
    "MR": {
        **{"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "BodyPartExamined": "HEART", "MRAcquisitionType": "2D"},
        **{"ScanningSequence": "GR", "SequenceVariant": "SK", "ScanOptions": "CG", "FlipAngle": "60"},
        **{"EchoTime": "1.5", "EchoTrainLength": "1", "RepetitionTime": "3"},
    },
}


def _decimals(numbers: Iterable[Any]) -> list[DSfloat]:
    """In the 16 characters that DICOM has for a number."""
    return [DSfloat(float(x), auto_format=True) for x in numbers]
