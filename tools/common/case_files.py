"""The datalist: one record per case, read from its files and checked against them before anything is trained."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from numpy.typing import NDArray

from scripts.data.checks import (
    AGAIN,
    HIGHEST_IN_FAT,
    LARGEST_SHIFT,
    MOST_AFTER,
    file_fault,
    grid_shift,
    image_fault,
    name_fault,
    nifti_fault,
)

from .findings import Findings

MOST_BELOW_IN_MR = 0.25  # share of voxels; MR starts at about 0, and more than half of a CT is fat, lung and air
# What nibabel, gzip and the disk raise for a file that cannot be read to its end.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,  # a damaged header asks for any amount
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case and what their names tell; no `label` makes it an unlabelled case.

    `further` are the files of the second channel and those that follow, on the grid of `image`, the first.
    A `modality` of "CT" or "MR" is compared with the intensities; `modality_of` says in the message how it was known.
    """

    id: str
    patient: str
    image: Path
    label: Path | None = None
    phase: str | None = None
    modality: str | None = None
    modality_of: str | None = None
    further: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A NIfTI file in memory: values [X, Y, Z], affine [4, 4], spacing in mm, axis codes, hash of the file, header."""

    values: NDArray[Any]
    affine: NDArray[np.float64]
    spacing: list[float]
    orientation: str
    sha256: str
    header: Any


def read_volume(path: Path, findings: Findings) -> Volume | None:
    """Read a 3D NIfTI file, compressed or not; None if that is impossible, with the reason in `findings`.

    The whole file is read and decompressed in memory, because only then gzip's checksum is verified. The spacing is the
    header's (pixdim), not the affine's: the official ACDC files have an sform of unit scale beside the right pixdim.
    """
    expected = "a 3D NIfTI volume"
    if fault := file_fault(path):
        findings.add(path, *fault)
        return None
    try:
        data = path.read_bytes()
        if fault := name_fault(path, data[:2]):
            findings.add(path, *fault)
            return None
        content = _decompressed(data) if path.name.lower().endswith(".gz") else data
        kind = next((k for k in (Nifti1Image, Nifti2Image) if k.header_class.may_contain_header(content)), None)
        if kind is None:
            findings.add(path, expected, "content that is not NIfTI", AGAIN)
            return None
        image = kind.from_bytes(content)
        if fault := image_fault(image, len(content)) or nifti_fault(path):  # a file may read on where memory does not
            findings.add(path, *fault)
            return None
        values = _as_training_has_them(np.asanyarray(image.dataobj))
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        findings.add(path, expected, f"a truncated or otherwise unreadable file ({reason})", AGAIN)
        return None
    assert image.affine is not None
    spacing = [round(float(zoom), 6) for zoom in image.header.get_zooms()]
    axes = nib.orientations.aff2axcodes(image.affine)
    return Volume(values, image.affine, spacing, "".join(axes), hashlib.sha256(data).hexdigest(), image.header)


def _decompressed(data: bytes) -> bytes:
    """The file in some gzip data; no more of it in memory than its header says, whatever else is packed with it.

    Raises:
        ValueError: much more than the header says.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        start = file.read(max(kind.header_class.sizeof_hdr for kind in (Nifti1Image, Nifti2Image)))
        kind = next((k for k in (Nifti1Image, Nifti2Image) if k.header_class.may_contain_header(start)), None)
        if kind is None:
            return start
        header = kind.header_class.from_fileobj(io.BytesIO(start))
        voxels = math.prod(map(int, header.get_data_shape())) * header.get_data_dtype().itemsize
        rest = file.read(max(0, int(header.get_data_offset()) + voxels - len(start)))
        after = file.read(MOST_AFTER)  # to the end, for gzip's checksum
        if len(after) == MOST_AFTER:
            raise ValueError("more follows than its header says")
        return start + rest


def _as_training_has_them(values: NDArray[Any]) -> NDArray[Any]:
    """Floating-point numbers as float32: what lies beyond its range is infinite there."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32) if values.dtype.kind == "f" else values


def build_cases(
    cases: Iterable[CaseFiles], labels: Mapping[int, str], root: Path, findings: Findings
) -> list[dict[str, Any]]:
    """The datalist's records of cases, with shape, spacing (mm), hashes and voxels per class; none after a problem.

    Args:
        cases: where each case lies.
        labels: id and name of every class, background included.
        root: folder of the datalist; paths inside it are noted relative to it.
        findings: takes whatever is wrong with the files.
    """
    records = [_record(files, labels, root, findings) for files in cases]
    return [record for record in records if record is not None]


def _record(files: CaseFiles, labels: Mapping[int, str], root: Path, findings: Findings) -> dict[str, Any] | None:
    before = len(findings.lines)
    image, label = read_case(files, labels, findings)
    further = [read_further(path, files, image, findings) for path in files.further]
    if image is None or len(findings.lines) > before:
        return None
    case: dict[str, Any] = {"id": files.id, "patient": files.patient}
    if files.phase:
        case["phase"] = files.phase
    if files.modality:
        case["modality"] = files.modality
    case["image"] = _one_or_all([_noted_path(path, root) for path in (files.image, *files.further)])
    if files.label:
        case["label"] = _noted_path(files.label, root)
    case["shape"] = list(image.values.shape)
    case["spacing"] = image.spacing
    case["orientation"] = image.orientation
    case["sha256"] = {"image": _one_or_all([image.sha256, *further])}
    if label is not None:
        case["sha256"]["label"] = label.sha256
        case["voxels"] = {str(k): int((label.values == k).sum()) for k in labels if k != 0}
    return case


def _one_or_all(channels: list[str]) -> str | list[str]:
    """What a datalist says of the channels; of a single one without a list."""
    return channels if channels[1:] else channels[0]


def read_further(path: Path, files: CaseFiles, first: Volume | None, findings: Findings) -> str:
    """Read another channel of a case and compare its grid with that of the first; its hash, empty if unreadable."""
    volume = read_volume(path, findings)
    if volume is None:
        return ""
    _check_image(path, volume, files, findings)
    if first is not None:
        _check_grid(path, "channel", volume, first, findings)
    return volume.sha256


def read_case(files: CaseFiles, labels: Mapping[int, str], findings: Findings) -> tuple[Volume | None, Volume | None]:
    """Image and label of a case, None for what cannot be read; whatever is wrong with them goes into `findings`."""
    image = read_volume(files.image, findings)
    label = read_volume(files.label, findings) if files.label else None
    if image is not None:
        _check_image(files.image, image, files, findings)
    if files.label and label is not None:
        _check_label(files.label, label, labels, findings)
        if image is not None:
            _check_grid(files.label, "label", label, image, findings)
    return image, label


def _check_image(path: Path, image: Volume, files: CaseFiles, findings: Findings) -> None:
    bad = int((~np.isfinite(image.values)).sum()) if image.values.dtype.kind == "f" else 0
    if bad:
        findings.add(path, "finite intensities", f"{bad} voxels of NaN or Inf", "export the image again")
    elif (value := image.values.flat[0]) == image.values.max() == image.values.min():
        findings.add(path, "grey values that differ", f"{value:g} in every voxel", "export the image again")
    elif files.modality and not (files.modality == "CT" and files.further):  # beside CT there may be another kind
        _check_modality(path, image, files, findings)


def _check_modality(path: Path, image: Volume, files: CaseFiles, findings: Findings) -> None:
    below = float((image.values < HIGHEST_IN_FAT).mean())
    reason = f" for {files.modality_of}" if files.modality_of else ""
    if files.modality == "CT" and below == 0:
        found = f"no value below {HIGHEST_IN_FAT} ({image.values.min():g} to {image.values.max():g})"
        fix = "export it with its rescale intercept, or leave it out if it is MR"
        findings.add(path, f"CT in Hounsfield units{reason}", found, fix)
    if files.modality == "MR" and below > MOST_BELOW_IN_MR:
        found = f"{below:.0%} of the voxels below {HIGHEST_IN_FAT}, as in Hounsfield units"
        findings.add(path, f"MR{reason}", found, "leave it out if it is CT, or export it again")


def _check_label(path: Path, label: Volume, labels: Mapping[int, str], findings: Findings) -> None:
    values, counts = np.unique(label.values, return_counts=True)
    odd = [(value, count) for value, count in zip(values.tolist(), counts.tolist(), strict=True) if value not in labels]
    if odd:
        found = ", ".join(f"{value:g} ({count} voxels)" for value, count in odd[:4]) + (", ..." if odd[4:] else "")
        known = ", ".join(f"{k} {name}" for k, name in labels.items())
        findings.add(path, f"only the label values {known}", found, "correct the label, or map its values to these")


def _check_grid(path: Path, kind: str, volume: Volume, image: Volume, findings: Findings) -> None:
    """Compare the grid of a "label" or of another "channel" with the image's."""
    whose = {"label": "its image's", "channel": "the first channel's"}[kind]
    if volume.values.shape != image.values.shape:
        expected, found = (" x ".join(map(str, one.values.shape)) for one in (image, volume))
        findings.add(path, f"{whose} shape {expected}", found, f"export image and {kind} on the same grid")
        return
    shift = grid_shift(volume.affine, image.affine, image.values.shape)
    if shift > LARGEST_SHIFT:
        fix = f"resample the {kind} to the image, or copy the image's header if only the header is off"
        findings.add(path, f"{whose} affine", f"one that moves a corner by {shift:.4g} mm", fix)


def _noted_path(path: Path, root: Path) -> str:
    # abspath, not resolve: a link inside the data set stays the name that the user knows.
    absolute, folder = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return (absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute).as_posix()


def datalist(name: str, modality: str, labels: Mapping[int, str], cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of datalist.json, cases in the order of their ids."""
    return {
        "name": name,
        "modality": modality,
        "labels": {str(k): label for k, label in labels.items()},
        "cases": sorted(cases, key=lambda case: str(case["id"])),
    }


def describe(content: Mapping[str, Any]) -> str:
    """A few lines for the user: how many cases, of which modality, size and spacing, and how large each class is."""
    cases = content["cases"]
    labelled = [case for case in cases if "label" in case]
    patients = len({case["patient"] for case in cases})
    modalities = Counter(case["modality"] for case in cases if "modality" in case)
    kinds = f" ({', '.join(f'{count} {name}' for name, count in sorted(modalities.items()))})" if modalities else ""
    lines = [
        f"{content['name']}: {patients} patients, {len(cases)} cases{kinds}, {len(labelled)} of them labelled",
        f"  shape {_span([case['shape'] for case in cases])}, spacing {_span([case['spacing'] for case in cases])} mm",
    ]
    for key, name in content["labels"].items():
        counts = sorted(case["voxels"][key] for case in labelled) if key != "0" else []
        if counts:
            missing = f", absent in {counts.count(0)} cases" if 0 in counts else ""
            median = int(np.median(counts))
            lines.append(f"  {key:>2} {name}: {counts[0]} to {counts[-1]} voxels, median {median}{missing}")
    return "\n".join(lines)


def _span(rows: Sequence[Sequence[float]]) -> str:
    low, high = np.min(rows, axis=0), np.max(rows, axis=0)
    first, last = (" x ".join(f"{value:.4g}" for value in row) for row in (low, high))
    return first if first == last else f"{first} to {last}"
