"""A DICOM SEG holds the label map where it was made, with codes and colours, and says what made it."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from scripts.errors import UserError
from tests.tools.dicom_files import write_enhanced, write_series
from tools.dicom.reading import find_series
from tools.dicom.segments import read_segments
from tools.dicom.volume import DicomVolume, read_volumes
from tools.dicom.writing import Algorithm, write_segmentation

SEGMENTS = read_segments(Path("bundles/dca_synapse")).by_class
ALGORITHM = Algorithm("DCA abdominal CT", "0.1.0", "0123456789abcdef")
SHAPE = (20, 16, 12)
VALUES = np.broadcast_to(np.arange(SHAPE[2]), SHAPE).astype(np.int16)  # slices differ
LIVER, LEFT_KIDNEY, VEINS = 6, 3, 10


def affine_of(name: str) -> NDArray[np.float64]:
    affine = np.diag([-1.5, -1.25, 3.0, 1.0])
    if name == "oblique":
        affine[:3, :3] = euler2mat(z=0.2, y=0.1, x=-0.15) @ affine[:3, :3]
    if name == "flipped":
        affine[2, 2] *= -1
    affine[:3, 3] = (31.5, -12.25, -700.5)
    return affine


def labels() -> NDArray[np.uint8]:
    """Three organs; the lowest and the highest slices are empty, and no axis is symmetric."""
    found = np.zeros(SHAPE, np.uint8)
    found[3:11, 4:9, 2:7] = LIVER
    found[12:15, 2:5, 3:9] = LEFT_KIDNEY
    found[12, 10:13, 5] = VEINS
    return found


def read(folder: Path, modality: str = "CT") -> list[DicomVolume]:
    (series,) = find_series(folder)
    return read_volumes(series, modality)


def placed(segmentation: hd.seg.Segmentation, affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The segment numbers of a SEG on the grid of `affine` (RAS+), placed by their positions in space alone."""
    volume = segmentation.get_volume(combine_segments=True)
    indices = np.argwhere(volume.array)
    world = np.diag([-1, -1, 1]) @ (volume.affine[:3, :3] @ indices.T + volume.affine[:3, 3:])
    inverse = np.linalg.inv(affine)
    there = inverse[:3, :3] @ world + inverse[:3, 3:]
    assert np.abs(there - there.round()).max() < 1e-3
    found = np.zeros(SHAPE, np.uint8)
    found[tuple(there.round().astype(int))] = volume.array[tuple(indices.T)]
    return found


@pytest.mark.parametrize("kind", ["single", "enhanced"])
@pytest.mark.parametrize("name", ["plain", "flipped", "oblique"])
def test_each_segment_lies_where_its_class_does(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "single":
        write_series(tmp_path / "ct", VALUES, affine_of(name))
    else:
        write_enhanced(tmp_path / "ct" / "ct.dcm", [VALUES], affine_of(name))
    (volume,) = read(tmp_path / "ct")
    flip = slice(None, None, -1 if name == "flipped" else 1)  # the volume's slices go up along their normal
    absent = write_segmentation(tmp_path / "s.dcm", labels()[:, :, flip], volume, SEGMENTS, ALGORITHM)
    segmentation = hd.seg.segread(tmp_path / "s.dcm")
    numbers = {segment.SegmentLabel: segment.SegmentNumber for segment in segmentation.SegmentSequence}
    assert numbers == {"left kidney": 1, "liver": 2, "portal and splenic veins": 3}
    assert absent == [s.name for c, s in SEGMENTS.items() if c not in (LIVER, LEFT_KIDNEY, VEINS)]
    found = placed(segmentation, affine_of(name))
    for c, number in ((LIVER, 2), (LEFT_KIDNEY, 1), (VEINS, 3)):
        assert np.array_equal(found == number, labels() == c)


@pytest.fixture
def written(tmp_path: Path) -> tuple[hd.seg.Segmentation, DicomVolume]:
    write_series(tmp_path / "ct", VALUES, affine_of("plain"))
    (volume,) = read(tmp_path / "ct")
    write_segmentation(tmp_path / "s.dcm", labels(), volume, SEGMENTS, ALGORITHM)
    return hd.seg.segread(tmp_path / "s.dcm"), volume


def test_segments_carry_their_codes_and_colours(written: tuple[hd.seg.Segmentation, DicomVolume]) -> None:
    kidney, liver, veins = written[0].SegmentSequence
    assert (liver.segmented_property_type.value, liver.segmented_property_type.meaning) == ("10200004", "Liver")
    assert liver.segmented_property_category.meaning == "Anatomical Structure"
    (side,) = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    assert [code.meaning for code in veins.primary_anatomic_structures] == ["Portal vein", "Splenic vein"]
    for segment, c in ((kidney, LEFT_KIDNEY), (liver, LIVER)):
        colour = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        assert np.abs(np.subtract(colour, SEGMENTS[c].colour)).max() <= 1


def test_segmentation_says_what_made_it_of_what(written: tuple[hd.seg.Segmentation, DicomVolume]) -> None:
    segmentation, volume = written
    source = volume.headers[0]
    assert segmentation.SegmentationType == "BINARY"
    assert (segmentation.Manufacturer, segmentation.ManufacturerModelName) == ("dca-bundles", "DCA abdominal CT")
    assert (segmentation.SoftwareVersions, segmentation.DeviceSerialNumber) == ("0.1.0", "0123456789abcdef")
    for segment in segmentation.SegmentSequence:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("DCA abdominal CT", "0.1.0")
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert segmentation.get(keyword) == source.get(keyword)
    assert segmentation.SeriesInstanceUID != source.SeriesInstanceUID
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == {header.SOPInstanceUID for header in volume.headers}


def test_frames_refer_to_the_images_that_they_lie_on(written: tuple[hd.seg.Segmentation, DicomVolume]) -> None:
    segmentation, volume = written
    heights = {header.SOPInstanceUID: header.ImagePositionPatient[2] for header in volume.headers}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert heights[source] == frame.PlanePositionSequence[0].ImagePositionPatient[2]


def test_phase_of_a_multi_frame_cine_refers_to_its_own_frames(tmp_path: Path) -> None:
    phases = [VALUES + np.int16(100 * phase) for phase in range(3)]
    write_enhanced(tmp_path / "mr" / "mr.dcm", phases, affine_of("plain"), "MR")
    volume = read(tmp_path / "mr", "MR")[1]
    write_segmentation(tmp_path / "s.dcm", labels(), volume, SEGMENTS, ALGORITHM)
    segmentation = hd.seg.segread(tmp_path / "s.dcm")
    assert np.array_equal(placed(segmentation, affine_of("plain")) > 0, labels() > 0)
    own = {frame.number + 1 for frame in volume.stack.frames}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        for source in frame.DerivationImageSequence[0].SourceImageSequence:
            assert int(source.ReferencedFrameNumber) in own


def test_nothing_is_written_where_no_organ_was_found(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", VALUES, affine_of("plain"))
    (volume,) = read(tmp_path / "ct")
    absent = write_segmentation(tmp_path / "s.dcm", np.zeros(SHAPE, np.uint8), volume, SEGMENTS, ALGORITHM)
    assert len(absent) == len(SEGMENTS)
    assert not (tmp_path / "s.dcm").exists()


def test_images_that_lack_a_patient_can_be_segmented(tmp_path: Path) -> None:
    gone = dict.fromkeys(["PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"])
    write_series(tmp_path / "ct", VALUES, affine_of("plain"), **gone)
    (volume,) = read(tmp_path / "ct")
    write_segmentation(tmp_path / "s.dcm", labels(), volume, SEGMENTS, ALGORITHM)
    assert hd.seg.segread(tmp_path / "s.dcm").PatientID == ""


def test_several_multi_frame_images_are_refused(tmp_path: Path) -> None:
    halves = np.split(VALUES, 2, axis=2)
    upper = affine_of("plain") @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 6], [0, 0, 0, 1]])
    uids = {"SeriesInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2.4", "StudyInstanceUID": "1.2.5"}
    for name, half, affine in (("lower", halves[0], affine_of("plain")), ("upper", halves[1], upper)):
        write_enhanced(tmp_path / "ct" / f"{name}.dcm", [half], affine, **uids)
    (volume,) = read(tmp_path / "ct")
    with pytest.raises(UserError, match=r"series 1\.2\.3: expected one multi-frame image, found 2"):
        write_segmentation(tmp_path / "s.dcm", labels(), volume, SEGMENTS, ALGORITHM)
