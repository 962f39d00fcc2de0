"""Damaged DICOM series: read or refused in a line, and a sound series in another folder is always found and read."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.fuzz.fuzzing import INPUTS, WrongError, fuzz, refusal
from tests.tools.dicom_files import write_enhanced, write_series
from tools.dicom.choosing import choose
from tools.dicom.reading import find_series
from tools.dicom.volume import DicomVolume, read_volumes

SOUND = {"CT": "1.2.3.1", "MR": "1.2.3.2"}
VALUES = {
    "CT": np.random.default_rng(0).integers(-1000, 1000, (6, 5, 10)).astype(np.int16),
    "MR": np.random.default_rng(0).integers(0, 500, (6, 5, 4)).astype(np.int16),
}
AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
LIKELY = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("SeriesNumber", "SeriesDescription", "PatientID", "ImageType", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *(
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
    ),
    *("InstanceNumber", "TriggerTime", "TemporalPositionIdentifier", "PixelData", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
RAW = [
    *(
        b"",
        b"  ",
        b"\0\0",
        b"0 ",
        b"-1",
        b"1.5 ",
        b"1e400 ",
        b"nan ",
        b"inf ",
        b"9" * 20,
        b"a\\b ",
        b"1\\2\\3\\4\\5\\6 ",
    ),
    *(
        b"1\\0\\0\\0\\1\\0 ",
        b"\x1b[2J",
        b"a\nb ",
        b"\xff\xfe",
        b"\xd8\x00",
        b"\\\\",
        b"\\",
        b"A" * 300,
        b"1,5 ",
        b"0x10",
    ),
    *(b"\x01\0", b"\xff\xff", b"\x10\0\0\0", b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.x ", b"HU", b"US", b"MONOCHROME1 "),
]
VRS = ["IS", "DS", "US", "SS", "FD", "UI", "LO", "CS", "PN", "DA", "OB", "UN", "AT", "UL", "SQ", "UT"]
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, "1.2.x", ""]
Random = np.random.Generator


class Samples:
    """Sound series, written once: the files of each as bytes."""

    def __init__(self, folder: Path) -> None:
        self.series: list[tuple[str, list[bytes]]] = []
        for modality, values in VALUES.items():
            series = folder / f"{modality}_single"
            write_series(series, values, AFFINE, modality, SeriesInstanceUID="1.2.4")
            write_enhanced(
                folder / f"{modality}_multi" / "a.dcm", [values], AFFINE, modality, SeriesInstanceUID="1.2.4"
            )
            for path in (series, folder / f"{modality}_multi"):
                self.series.append((modality, [file.read_bytes() for file in sorted(path.iterdir())]))

    def draw(self, draw: Random) -> tuple[str, list[bytes]]:
        """The modality of a series, and its files with one to three things wrong in one or all of them."""
        modality, files = self.series[draw.integers(len(self.series))]
        files, seed = list(files), int(draw.integers(2**31))
        some = range(len(files)) if draw.integers(2) else [int(draw.integers(len(files)))]
        for i in some:  # the same damage in each
            files[i] = damaged(np.random.default_rng(seed), files[i])
        return modality, files


def damaged(draw: Random, content: bytes) -> bytes:
    """An image with one to three other tags, or other bytes."""
    if draw.integers(4):
        image = pydicom.dcmread(io.BytesIO(content))
        written = io.BytesIO()
        with suppress(Exception):  # some damage is such that pydicom does not write it, or change anything after it
            for _ in range(draw.integers(1, 4)):
                TAG_CHANGES[draw.integers(len(TAG_CHANGES))](draw, image)
            image.save_as(written)
            content = written.getvalue()
        if draw.integers(4):
            return content
    raw = bytearray(content)
    way = draw.integers(4)
    if way == 0:
        return bytes(raw[: draw.integers(len(raw) + 1)])
    start = 0 if way == 1 else 132
    for _ in range(draw.integers(1, 6)):
        raw[draw.integers(min(start, len(raw) - 1), len(raw))] = draw.integers(256)
    return bytes(raw)


def one_of(draw: Random, image: Dataset) -> tuple[Dataset, Any]:
    """A data set in an image, itself most times, and a tag of it, a likely one most times."""
    inside = image
    while draw.integers(3):
        sequences = [element for element in inside if element.VR == "SQ" and element.value]
        if not sequences:
            break
        items = sequences[draw.integers(len(sequences))].value
        inside = items[draw.integers(len(items))]
    keywords = [word for word in LIKELY if word in inside] if draw.integers(5) else inside.dir()
    keywords = keywords or LIKELY
    return inside, pydicom.datadict.tag_for_keyword(keywords[draw.integers(len(keywords))])


def set_raw(draw: Random, image: Dataset) -> None:
    """Bytes that need not be of the tag's kind; pydicom writes and reads what is of an unknown VR as it is."""
    inside, tag = one_of(draw, image)
    vr = pydicom.datadict.dictionary_VR(tag)
    value = RAW[draw.integers(len(RAW))] if draw.integers(5) else draw.bytes(draw.integers(1, 20) * 2)
    inside[tag] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), vr if " " not in vr else "US", len(value), value, 0, False, True
    )


def set_other(draw: Random, image: Dataset) -> None:
    """A value of another kind, under the VR of its own."""
    inside, tag = one_of(draw, image)
    vr = VRS[draw.integers(len(VRS))]
    value = [Dataset()] * int(draw.integers(3)) if vr == "SQ" else RAW[draw.integers(len(RAW))]
    if vr == "SQ":
        inside[tag] = DataElement(tag, vr, value)
    else:
        inside[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(value), value, 0, False, True)


def remove(draw: Random, image: Dataset) -> None:
    inside, tag = one_of(draw, image)
    inside.pop(tag, None)


def empty(draw: Random, image: Dataset) -> None:
    inside, tag = one_of(draw, image)
    inside[tag] = DataElement(tag, pydicom.datadict.dictionary_VR(tag).split(" ")[0], None)


def change_items(draw: Random, image: Dataset) -> None:
    """An item more or less in a sequence, or an empty one."""
    inside, _ = one_of(draw, image)
    for element in inside:
        if element.VR == "SQ":
            items = list(element.value)
            way = draw.integers(3)
            items = items[:-1] if way == 0 else [*items, Dataset()] if way == 1 else [Dataset() for _ in items]
            inside[element.tag] = DataElement(element.tag, "SQ", items)


def change_syntax(draw: Random, image: Dataset) -> None:
    """What the file says of its encoding, which stays as it was."""
    image.file_meta.TransferSyntaxUID = SYNTAXES[draw.integers(len(SYNTAXES))]


TAG_CHANGES: list[Callable[[Random, Dataset], None]] = [
    *([set_raw] * 4 + [set_other] * 2),
    *(remove, empty, change_items, change_syntax),
]


@pytest.mark.filterwarnings("ignore")
@INPUTS
def test_damaged_series_is_read_or_refused_and_the_sound_one_beside_it_is_read(inputs: int, tmp_path: Path) -> None:
    samples = Samples(tmp_path / "samples")
    folder = tmp_path / "found"
    for modality, values in VALUES.items():
        write_series(folder / f"sound {modality}", values, AFFINE, modality, SeriesInstanceUID=SOUND[modality])
    (folder / "damaged").mkdir()

    def attempt(draw: Random) -> str:
        modality, files = samples.draw(draw)
        for old in (folder / "damaged").iterdir():
            old.unlink()
        for i, content in enumerate(files):
            (folder / "damaged" / f"{i:02}.dcm").write_bytes(content)
        found = find_series(folder)
        ends = set()
        for series in choose(found, modality, str(folder)):
            volumes: list[DicomVolume] = []
            line = refusal(lambda series=series, volumes=volumes: volumes.extend(read_volumes(series, modality)))
            if not str(series).isprintable():
                raise WrongError(f"a series in one line expected: {str(series)!r}")
            if all(file.parent.name == f"sound {modality}" for file in series.files):
                if line or not np.array_equal(volumes[0].values, VALUES[modality]):
                    raise WrongError(f"the sound series: {line}")
                ends.add("sound")
                continue
            for volume in volumes:
                affine = volume.stack.affine
                if not np.isfinite(volume.values).all() or not np.isfinite(affine).all() or not np.linalg.det(affine):
                    raise WrongError("a volume that cannot be used was taken")
            ends.add("refused" if line else "taken")
        if "sound" not in ends:
            raise WrongError("the sound series was not found")
        return next(iter(ends - {"sound"}), "passed over")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz(inputs, attempt)
