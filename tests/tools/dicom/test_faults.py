"""What is wrong with a series is told in one line that names it; nothing is guessed about where its slices lie."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, generate_uid

from scripts.errors import UserError
from tests.tools.dicom_files import write_enhanced, write_series
from tools.dicom.choosing import choose
from tools.dicom.reading import find_series
from tools.dicom.volume import read_volumes

UID = "1.2.3.4.5"
VALUES = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 12)).astype(np.int16)
AFFINE = np.array([[-1.5, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 3, -700], [0, 0, 0, 1.0]])
Images = list[Dataset]


def write(folder: Path, change: Callable[[Images], Images | None] | None = None, **how: object) -> list[Path]:
    return write_series(folder, VALUES, AFFINE, change=change, SeriesInstanceUID=UID, **how)  # type: ignore[arg-type]


def read(folder: Path, modality: str = "CT") -> np.ndarray:
    (series,) = choose(find_series(folder), modality, str(folder))
    return read_volumes(series, modality)[0].values


def every(keyword: str, value: object, only: slice = slice(5, 6)) -> Callable[[Images], None]:
    """Sets an attribute of some images; None removes it."""

    def change(images: Images) -> None:
        for image in images[only]:
            if value is None:
                delattr(image, keyword)
            else:
                setattr(image, keyword, value)

    return change


def tilt(images: Images) -> None:
    """As a gantry does that leans by ten degrees: the slices lean, the table moves straight."""
    angle = np.radians(10)
    for image in images:
        image.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]


def copy_of(number: int, **tags: object) -> Callable[[Images], Images]:
    """Adds an image once more, with some other attributes."""

    def change(images: Images) -> Images:
        double = Dataset.from_json(images[number].to_json())
        double.SOPInstanceUID = generate_uid()
        for keyword, value in tags.items():
            setattr(double, keyword, value)
        return [*images, double]

    return change


FAULTS: dict[str, tuple[Callable[[Images], Images | None], str]] = {
    "missing slice": (lambda images: images[:5] + images[6:], "gaps between -688.00 and -682.00 mm"),
    "missing second slice": (lambda images: images[:1] + images[2:], "slices are missing"),
    "two missing slices": (lambda images: images[:3] + images[5:], "slices are missing"),
    "uneven distances": (every("ImagePositionPatient", [-30.0, -20.0, -684.0]), "even distances"),
    "slice to the side": (every("ImagePositionPatient", [-25.0, -20.0, -685.0]), "one straight line"),
    "gantry tilt": (tilt, "gantry tilt of 10.0 degrees"),
    "another orientation": (every("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "one orientation"),
    "mirrored slice": (every("ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]), "one orientation"),
    "oblique axes": (every("ImageOrientationPatient", [1, 0, 0, 0.5, 0.8, 0]), "perpendicular"),
    "another pixel spacing": (every("PixelSpacing", [1.4, 1.5]), "one pixel spacing"),
    "another size": (every("Rows", 18, slice(5, 6)), "one size"),
    "no position": (every("ImagePositionPatient", None), "position"),
    "no orientation": (every("ImageOrientationPatient", None), "orientation"),
    "no pixel spacing": (every("PixelSpacing", None), "pixel spacing"),
    "no slope": (every("RescaleSlope", None), "RescaleSlope"),
    "no intercept": (every("RescaleIntercept", None), "Hounsfield units are not known"),
    "other unit": (every("RescaleType", "US", slice(None)), "values in US"),
    "two frames of reference": (every("FrameOfReferenceUID", "1.2.3"), "frame of reference"),
    "no frame of reference": (every("FrameOfReferenceUID", None, slice(None)), "frame of reference"),
    "colour": (every("SamplesPerPixel", 3, slice(None)), "colour"),
    "inverted grey values": (every("PhotometricInterpretation", "MONOCHROME1"), "found MONOCHROME1"),
    "no slope to speak of": (every("RescaleSlope", 0), "found 0 and -1024"),
    "negative slope": (every("RescaleSlope", -1), "RescaleSlope above 0"),
    "absurd slope": (every("RescaleSlope", "1e9"), "found 1e+09"),
    "absurd intercept": (every("RescaleIntercept", "-1e12"), "found 1 and -1e+12"),
    "one image in all places": (every("PixelData", bytes(2 * 40 * 36), slice(None)), "the same image in all"),
    "more frames than it describes": (every("NumberOfFrames", 100_000), "found 100000 frames and 1 in"),
    "two images at one place": (copy_of(4, PixelData=bytes(2 * 40 * 36)), "2 different ones at -688.00 mm"),
    "two scales at one place": (copy_of(4, RescaleIntercept=0), "one image per place"),
    "all at one place": (every("ImagePositionPatient", [0.0, 0.0, 0.0], slice(None)), "one image per place"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_with_the_series(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    write(tmp_path, change, SeriesDescription="portal venous")
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert message in str(caught.value)
    assert f"series {UID} (portal venous): expected " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_copies_of_an_image_are_passed_over_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, copy_of(4))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read(tmp_path), VALUES)
    assert "passed over 1 images that are copies" in caplog.text


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless, JPEGLosslessSV1])
def test_truncated_pixels_are_named_with_the_file(syntax: str | None, tmp_path: Path) -> None:
    files = write(tmp_path, **({"syntax": syntax} if syntax else {}))
    files[3].write_bytes(files[3].read_bytes()[:-800])
    with pytest.raises(UserError, match=rf"series {UID}.*readable pixels.*{files[3].name}"):
        read(tmp_path)


def test_pixels_that_no_decoder_reads_are_named(tmp_path: Path) -> None:
    files = write(tmp_path, syntax=JPEG2000Lossless)
    for file in files:
        image = pydicom.dcmread(file)
        image.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        image.save_as(file)
    with pytest.raises(UserError, match=rf"series {UID}.*JPEG Lossless.*uncompressed if its compression"):
        read(tmp_path)


@pytest.mark.parametrize("left", [600, 200, 140])
def test_a_file_truncated_in_its_header_stops_the_series_beside_it(left: int, tmp_path: Path) -> None:
    files = write(tmp_path)
    last = max(range(12), key=lambda i: i)  # the end of the stack: no gap tells that it is missing
    files[last].write_bytes(files[last].read_bytes()[:left])
    with pytest.raises(UserError, match=rf"series {UID}.*damaged.*{files[last].name}"):
        read(tmp_path)


WRONG_KINDS: dict[str, tuple[str, bytes]] = {  # attribute: its VR in the file, its bytes there
    "RescaleSlope": ("LO", b"steep "),
    "RescaleIntercept": ("DS", b"1\\2 "),
    "ImagePositionPatient": ("DS", b"7 "),
    "PixelSpacing": ("DS", b"a\\b "),
    "InstanceNumber": ("LO", b"first "),
    "SamplesPerPixel": ("LO", b"one "),
    "ImageOrientationPatient": ("DS", b"1\\0\\0\\0\\1\\x "),
    "RescaleType": ("LO", b"a\x1b[2J "),
    "FrameOfReferenceUID": ("SQ", b"1.2.3 "),
    "TransferSyntaxUID": ("", b""),
}


@pytest.mark.filterwarnings("ignore:Invalid value", "ignore:Value", "ignore:The value length")  # pydicom's
@pytest.mark.parametrize("keyword", WRONG_KINDS)
def test_a_value_of_another_kind_is_told_in_a_line(keyword: str, tmp_path: Path) -> None:
    vr, value = WRONG_KINDS[keyword]
    for file in write(tmp_path):
        image = pydicom.dcmread(file)
        if keyword == "TransferSyntaxUID":
            image.file_meta.TransferSyntaxUID = "1.2.nobody\x1b"
        else:
            tag = pydicom.tag.Tag(keyword)
            image[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        image.save_as(file)
    with pytest.raises(UserError, match=rf"series {UID}") as told:
        read(tmp_path)
    assert str(told.value).isprintable()


@pytest.mark.filterwarnings("ignore:Invalid value", "ignore:Value", "ignore:The value length")  # pydicom's
def test_a_class_of_image_that_is_no_uid_stops_its_series_only(tmp_path: Path) -> None:
    write(tmp_path / "a")
    for file in write_series(tmp_path / "b", VALUES, AFFINE, SeriesInstanceUID="1.2.3")[:1]:
        raw = file.read_bytes()
        at = raw.index(b"\x08\x00\x16\x00UI")
        file.write_bytes(raw[: at + 4] + b"PN" + raw[at + 6 :])
    series = {one.uid: one for one in find_series(tmp_path)}
    assert np.array_equal(read_volumes(series[UID], "CT")[0].values, VALUES)


def test_single_slice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, lambda images: images[:1])
    with pytest.raises(UserError, match=rf"series {UID}.*at least 10 slices, found 1"):
        read(tmp_path)


def test_mr_given_to_a_ct_bundle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, modality="MR")
    with pytest.raises(UserError, match=rf"series {UID} \(phantom\): expected CT, found MR"):
        read(tmp_path)


def test_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(UserError, match="expected DICOM images, found none"):
        choose(find_series(tmp_path), "CT", str(tmp_path))


def test_files_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "README").write_text("x" * 400)
    (tmp_path / "empty").touch()
    assert np.array_equal(read(tmp_path), VALUES)


def test_emptied_uids_are_made_up_alike_every_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_series(tmp_path, VALUES, AFFINE, SeriesInstanceUID="", StudyInstanceUID="")
    (first,), (second,) = find_series(tmp_path), find_series(tmp_path)
    assert first.uid == second.uid != ""
    assert np.array_equal(read(tmp_path), VALUES)
    assert "has no StudyInstanceUID" in caplog.text


def test_fewer_functional_groups_than_frames_are_named(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", [VALUES], AFFINE)
    image = pydicom.dcmread(tmp_path / "a.dcm")
    del image.PerFrameFunctionalGroupsSequence[-1]
    image.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=rf"found {VALUES.shape[2]} frames and {VALUES.shape[2] - 1} in PerFrame"):
        read(tmp_path)


@pytest.mark.filterwarnings("ignore:The value length", "ignore:Value .* is not valid")  # pydicom's
@pytest.mark.parametrize("frames", ["many", "-3", "99999999999999999999"])
def test_a_number_of_frames_that_is_none_stops_its_series_only(tmp_path: Path, frames: str) -> None:
    write(tmp_path / "a")
    broken = write_series(tmp_path / "b", VALUES, AFFINE, SeriesInstanceUID="1.2.3")[0]
    raw = broken.read_bytes()
    value = frames.encode().ljust(20)
    at = raw.index(b"\x28\x00\x10\x00US")  # Rows, the next in the order of tags
    broken.write_bytes(raw[:at] + b"\x28\x00\x08\x00IS" + len(value).to_bytes(2, "little") + value + raw[at:])
    found = {series.uid: series for series in find_series(tmp_path)}
    assert read_volumes(found[UID], "CT")[0].values.shape == VALUES.shape
    with pytest.raises(UserError, match=r"found damaged ones beside it|frames and 1 in"):
        read_volumes(found["1.2.3"], "CT")


def test_a_description_cannot_forge_a_line_of_a_log(tmp_path: Path) -> None:
    write(tmp_path, SeriesDescription="liver\nerror: all is lost\x1b[2J")
    (series,) = find_series(tmp_path)
    assert str(series).isprintable()
    assert len(str(series)) < 200


def test_slices_that_repeat_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def repeat(images: Images) -> Images:
        images[5].PixelData = images[4].PixelData
        return images

    write(tmp_path, repeat)
    read(tmp_path)
    assert f"1 of {VALUES.shape[2]} slices are the same as the one below them" in caplog.text
