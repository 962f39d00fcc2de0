"""Writes volumes as DICOM series, the way scanners do, and with the faults that series have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
INTERCEPT = {"CT": -1024, "MR": 0}


def write_series(
    folder: Path,
    volumes: NDArray[Any] | Sequence[NDArray[Any]],
    affine: NDArray[np.float64],
    modality: str = "CT",
    syntax: str = ExplicitVRLittleEndian,
    change: Callable[[list[Dataset]], list[Dataset] | None] | None = None,
    **tags: Any,
) -> list[Path]:
    """Write a volume [X, Y, Z] with a RAS+ affine as one image per slice, or the phases of a cine.

    Args:
        folder: made if need be; the files' names are in no order of space or time.
        volumes: one volume, or one per phase.
        affine: voxel indices to mm.
        modality: "CT" or "MR".
        syntax: transfer syntax; a compressed one compresses.
        change: damages the images, or gives others in their place.
        tags: attributes of all images; None removes one.
    """
    phases = [volumes] if isinstance(volumes, np.ndarray) else list(volumes)
    images = [
        _image(volume[:, :, k], LPS @ affine, k, phase, volume.shape[2], modality)
        for phase, volume in enumerate(phases)
        for k in range(volume.shape[2])
    ]
    common = _common(modality) | tags
    for image in images:
        _set(image, common)
    images = (change(images) if change else None) or images
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(images))
    return [_save(image, folder / f"im{order[i]:04d}.dcm", syntax) for i, image in enumerate(images)]


def write_enhanced(
    path: Path, volumes: Sequence[NDArray[Any]], affine: NDArray[np.float64], modality: str = "CT", **tags: Any
) -> None:
    """Write volumes [X, Y, Z] of one grid as one multi-frame image; its frames are in a shuffled order."""
    lps = LPS @ affine
    frames = [(phase, k) for phase, volume in enumerate(volumes) for k in range(volume.shape[2])]
    frames = [frames[i] for i in np.random.default_rng(1).permutation(len(frames))]
    image = _image(volumes[0][:, :, 0], lps, 0, 0, 1, modality)
    _set(image, _common(modality) | tags)
    image.SOPClassUID = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}[modality]
    image.NumberOfFrames = len(frames)
    own = {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"}
    shared = Dataset()
    for group, keywords in (
        ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
        ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
        ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept", "RescaleType")),
    ):
        item = Dataset()
        for keyword in keywords:
            if keyword in image:
                setattr(item, keyword, image.get(keyword))
        setattr(shared, group, [item])
    for keyword in own & set(image.dir()):
        delattr(image, keyword)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for phase, k in frames:
        position, content, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _decimals((lps @ [0, 0, k, 1])[:3])
        content.TemporalPositionIndex = phase + 1
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        image.PerFrameFunctionalGroupsSequence.append(group)
    stored = np.stack([volumes[phase][:, :, k].T for phase, k in frames]) - INTERCEPT[modality]
    image.PixelData = stored.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(image, path, ExplicitVRLittleEndian)


def _image(values: NDArray[Any], lps: NDArray[np.float64], k: int, phase: int, slices: int, modality: str) -> Dataset:
    across, down = (lps[:3, axis] / np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    image = Dataset()
    image.SOPClassUID = {"CT": CTImageStorage, "MR": MRImageStorage}[modality]
    image.SOPInstanceUID = generate_uid()
    image.InstanceNumber = 1 + phase * slices + k
    image.ImagePositionPatient = _decimals((lps @ [0, 0, k, 1])[:3])
    image.ImageOrientationPatient = _decimals((*across, *down))
    image.PixelSpacing = _decimals(np.linalg.norm(lps[:3, axis]) for axis in (1, 0))
    (image.SliceThickness,) = _decimals([np.linalg.norm(lps[:3, 2])])
    image.Columns, image.Rows = values.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = (values.T - INTERCEPT[modality]).astype("<u2").tobytes()
    return image


def _decimals(numbers: Iterable[Any]) -> list[DSfloat]:
    """In the 16 characters that DICOM has for a number."""
    return [DSfloat(float(x), auto_format=True) for x in numbers]


def _common(modality: str) -> dict[str, Any]:
    """What all images of a series share."""
    rescale = {"RescaleSlope": 1, "RescaleIntercept": INTERCEPT["CT"], "RescaleType": "HU", "KVP": "120"}
    magnetic = {
        **{"ScanningSequence": "GR", "SequenceVariant": "SK", "ScanOptions": "", "MRAcquisitionType": "2D"},
        **{"EchoTime": "1.5", "EchoTrainLength": "1", "RepetitionTime": "3", "FlipAngle": "60"},
    }
    return {
        **{keyword: generate_uid() for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")},
        **{"PatientName": "Phantom^Made up", "PatientID": "P/01", "PatientBirthDate": "19700101", "PatientSex": "O"},
        **dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"), "20260101"),
        **dict.fromkeys(("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"), "120000"),
        **{"AccessionNumber": "A1", "ReferringPhysicianName": "", "StudyID": "1", "SeriesNumber": 3},
        **{"SeriesDescription": "phantom", "Modality": modality, "Manufacturer": "phantom", "PatientPosition": "HFS"},
        **{"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "PositionReferenceIndicator": "", "AcquisitionNumber": 1},
        **(rescale if modality == "CT" else magnetic),
    }


def _set(image: Dataset, tags: dict[str, Any]) -> None:
    for keyword, value in tags.items():
        if value is not None:
            setattr(image, keyword, value)
        elif keyword in image:
            delattr(image, keyword)


def _save(image: Dataset, path: Path, syntax: str) -> Path:
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax not in (ExplicitVRLittleEndian, JPEGLosslessSV1):
        image.compress(syntax, generate_instance_uid=False)
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    if syntax == JPEGLosslessSV1:  # pydicom can read it, but not write it
        frame = _lossless_jpeg(path)
        image.PixelData = encapsulate([frame])
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, image, enforce_file_format=True)
    return path


def _lossless_jpeg(path: Path) -> bytes:
    """The single frame of an uncompressed file as a JPEG stream (process 14, selection value 1), by GDCM."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    fragment = change.GetOutput().GetDataElement().GetSequenceOfFragments().GetFragment(0)
    text: str = fragment.GetByteValue().GetBuffer()
    return text.encode("utf-8", "surrogateescape")
