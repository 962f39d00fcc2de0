"""DICOM SEG with a code of its own for every class, there and back.

MONAI Label names the segments of a SEG by their order, which shifts when an organ is absent, gives them all the code of
the spleen, and reads them back as 1, 2, 3. Here a segment carries the code of its class, and is read back as its class.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from monailabel.datastore import dicom
from monailabel.datastore.utils import convert
from monailabel.endpoints import infer
from pydicom.sr.coding import Code

from scripts.files import read_json

from ...dicom.segments import read_segments
from .requests import RequestError

logger = logging.getLogger(__name__)

ALGORITHMS = {infer: "AUTOMATIC", dicom: "SEMIAUTOMATIC"}  # who writes a SEG: inference, or a saved label
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
TYPE, SIDE = "SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence"


def segments(bundle: Path) -> dict[int, dict[str, Any]]:
    """Per class id what dcmqi takes for a segment, without who made it.

    `segments.json` has the codes; classes that it lacks get one of a scheme of this project's own.
    """
    metadata = read_json(bundle / "configs" / "metadata.json", "bundle's metadata")
    classes = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    coded = read_segments(bundle).by_class if (bundle / "configs" / "segments.json").is_file() else {}
    result = {}
    for number, name in ((int(number), name) for number, name in classes.items() if int(number)):
        known = coded.get(number)
        result[number] = {
            "labelID": number,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmName": f"{metadata['name']} {metadata['version']}",
            "SegmentedPropertyCategoryCodeSequence": _code(known.category if known else ANATOMY),
            TYPE: _code(known.type if known else Code(f"{bundle.name[:12]}_{number}", "99DCA", name)),
        }
        if known:
            result[number]["recommendedDisplayRGBValue"] = list(known.colour)
        if known and known.side:
            result[number][SIDE] = _code(known.side)
    return result


def _code(code: Code) -> dict[str, str]:
    return {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme_designator, "CodeMeaning": code.meaning}


def present(label: str) -> list[int]:
    """The classes in a label file."""
    values = np.unique(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(label)))
    return [int(value) for value in values if value]


def label_info(classes: Sequence[int], known: dict[int, dict[str, Any]], algorithm: str) -> list[dict[str, Any]]:
    """MONAI Label's description of the segments, in the order in which it numbers them.

    Raises:
        RequestError: no class, of which no SEG can be made, or one that the bundle does not have.
    """
    foreign = [number for number in classes if number not in known]
    if foreign or not classes:
        found = f"values {foreign}" if foreign else "an empty label map, of which no DICOM SEG can be made"
        raise RequestError(f"label: expected classes 1..{max(known)}, found {found}", 422)
    return [
        {
            "name": known[number]["SegmentLabel"],
            "model_name": known[number]["SegmentAlgorithmName"],
            "segmentAttribute": known[number] | {"SegmentAlgorithmType": algorithm},
        }
        for number in classes
    ]


def write_and_read_own_codes(bundle: Path) -> None:
    """Make MONAI Label write and read SEG as described above, for the bundle in this folder."""
    known = segments(bundle)
    write = convert.nifti_to_dicom_seg
    for module, algorithm in ALGORITHMS.items():

        def write_coded(series: str, label: str, info: Any, made: str = algorithm, **how: Any) -> str:
            return str(write(series, label, label_info(present(label), known, made), **how))

        module.nifti_to_dicom_seg = write_coded
    convert.dicom_seg_to_itk_image = lambda label: read_coded(Path(label), known)


def read_coded(path: Path, known: dict[int, dict[str, Any]]) -> str:
    """Read a SEG into a label file on the grid of its image, which lies in the cache, and return its path.

    Segments that are no class of the bundle, by their code or their name, are background.
    """
    import pydicom
    import pydicom_seg

    dataset = pydicom.dcmread(next(path.iterdir()) if path.is_dir() else path)
    result = pydicom_seg.MultiClassReader().read(dataset)
    classes = np.zeros(max(result.segment_infos) + 1, dtype=np.uint8)
    for number, segment in result.segment_infos.items():
        classes[number] = _class_of(segment, known)
        if not classes[number]:
            logger.warning("%s: left out segment %r", path.name, str(segment.SegmentLabel))
    image = SimpleITK.GetImageFromArray(classes[result.data])
    image.CopyInformation(result.image)
    series = str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID)
    reference = path.parents[2] / f"{series}.nii.gz"
    if reference.exists():  # a SEG may hold only the slices with an organ
        own_grid = SimpleITK.ReadImage(str(reference))
        image = SimpleITK.Resample(image, own_grid, interpolator=SimpleITK.sitkNearestNeighbor)
    with tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as file:
        SimpleITK.WriteImage(image, file.name)
    return file.name


def _class_of(segment: Any, known: dict[int, dict[str, Any]]) -> int:
    """The class with the codes of a segment; failing that, the one with its name; 0 if there is none."""
    kind = segment[TYPE].value[0]
    sides = kind.get(SIDE) or segment.get(SIDE) or []
    own = [str(kind.CodeValue), *(str(side.CodeValue) for side in sides)]
    name = str(segment.SegmentLabel).lower()
    for number, one in known.items():
        if own == [one[key]["CodeValue"] for key in (TYPE, SIDE) if key in one]:
            return number
    return next((number for number, one in known.items() if one["SegmentLabel"].lower() == name), 0)
