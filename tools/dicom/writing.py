"""A label map as DICOM SEG."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from scripts.errors import UserError
from scripts.files import replacing

from .frames import Frame
from .segments import Segment
from .volume import DicomVolume

logger = logging.getLogger(__name__)

MANUFACTURER = "dca-bundles"
# What a result takes over from its images. They must be there, if only empty; some exports leave them out.
TAKEN_OVER = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation: its name, the version of the bundle, and what tells its weights apart."""

    name: str
    version: str
    weights: str


def write_segmentation(
    path: Path,
    labels: NDArray[np.uint8],
    volume: DicomVolume,
    segments: Mapping[int, Segment],
    algorithm: Algorithm,
    description: str = "",
) -> list[str]:
    """Write a BINARY DICOM SEG with one segment per class that occurs; no file where none does.

    Args:
        path: the file.
        labels: class ids [columns, rows, slices] on the volume's grid.
        volume: what was segmented.
        segments: the classes by id.
        algorithm: what made the label map.
        description: of the series, beside the algorithm's name.

    Returns:
        Names of the classes that occur nowhere: they have no segment.

    Raises:
        UserError: images that a SEG cannot refer to, or a file that cannot be written.
    """
    present = [c for c in segments if (labels == c).any()]
    absent = [segment.name for c, segment in segments.items() if c not in present]
    if not present:
        return absent
    # Segments are numbered from 1 without gaps.
    numbers = np.zeros(256, np.uint8)
    numbers[present] = np.arange(1, len(present) + 1)
    frames = volume.stack.frames
    sources = _sources(volume.headers, frames)
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=numbers[labels].transpose(2, 1, 0),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(i + 1, segments[c], algorithm) for i, c in enumerate(present)],
        series_instance_uid=hd.UID(),
        series_number=_series_number(sources[0]),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number=algorithm.weights,
        content_label="SEGMENTATION",
        content_description=f"{algorithm.name} {algorithm.version}"[:64],
        series_description=f"{algorithm.name} {description}".strip()[:64],
        **_planes(sources, frames),
    )
    if "NumberOfFrames" in sources[0]:
        _drop_other_frames(segmentation, {frame.number + 1 for frame in frames})
    with replacing(path, "a DICOM SEG") as partial:
        segmentation.save_as(partial)
    return absent


def _describe(number: int, segment: Segment, algorithm: Algorithm) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm.name, family=codes.DCM.ArtificialIntelligence, version=algorithm.version
        ),
        primary_anatomic_structures=segment.structures or None,
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.side is not None:
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = DicomSequence(
            [hd.sr.CodedConcept.from_code(segment.side)]
        )
    return description


def _sources(headers: Sequence[Dataset], frames: Sequence[Frame]) -> list[Dataset]:
    """The images of the frames, in their order; a multi-frame image once."""
    images = list(dict.fromkeys(frame.image for frame in frames))
    multi_frame = "NumberOfFrames" in headers[images[0]]
    if multi_frame and len(images) > 1:
        raise UserError(
            f"series {headers[0].SeriesInstanceUID}: expected one multi-frame image, found {len(images)}; a DICOM SEG "
            "cannot refer to several: leave out `seg` from --formats"
        )
    sources = []
    for image in images:
        source = copy.copy(headers[image])
        for keyword in TAKEN_OVER:
            if keyword not in source:
                setattr(source, keyword, "")
        sources.append(source)
    return sources


def _planes(sources: Sequence[Dataset], frames: Sequence[Frame]) -> dict[str, Any]:
    """Where the frames lie, for a multi-frame image: some of its frames, in another order."""
    if "NumberOfFrames" not in sources[0]:
        return {}
    coordinates = hd.CoordinateSystemNames.PATIENT
    return {
        "plane_positions": [hd.PlanePositionSequence(coordinates, list(frame.position)) for frame in frames],
        "plane_orientation": hd.PlaneOrientationSequence(coordinates, [*frames[0].row, *frames[0].column]),
        "pixel_measures": hd.PixelMeasuresSequence(
            pixel_spacing=frames[0].spacing,
            slice_thickness=abs(frames[1].height - frames[0].height),
            spacing_between_slices=abs(frames[1].height - frames[0].height),
        ),
    }


def _drop_other_frames(segmentation: Dataset, numbers: set[int]) -> None:
    """highdicom refers to all frames at the same place, those of the other phases of a cine, too."""
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            own = [item for item in derivation.SourceImageSequence if int(item.ReferencedFrameNumber) in numbers]
            derivation.SourceImageSequence = DicomSequence(own)


def _series_number(source: Dataset) -> int:
    """A number of its own beside those of the study's images."""
    return 9000 + int(source.get("SeriesNumber") or 0) % 1000
