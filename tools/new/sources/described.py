"""Data sets with a dataset.json: nnU-Net's raw folders, and the Medical Segmentation Decathlon's lists."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.data.checks import NIFTI
from scripts.errors import UserError, first_line
from scripts.files import read_json
from scripts.validation import shown

from ...common.findings import Findings
from .classes import classes_of
from .files import find_volumes, is_nifti, stem
from .pairs import NUMBERED, pair, read_name
from .source import Case, Source

NAME = "dataset.json"
PARTS = {"Tr": "train", "Va": "validation", "Ts": "test"}
LISTS = {"training": "train", "validation": "validation", "test": "test"}
CORRECT = "correct the file, or pass the folders of images and of labels instead"
MR = r"MRI?|T1.*|T2.*|FLAIR|DWI|ADC|PD.*|SWI|GRE|DCE.*"


def read_described(folder: Path, findings: Findings) -> Source:
    """The cases of a folder with a dataset.json, which says the classes, the channels and, of Decathlon, the files."""
    path = folder / NAME
    try:
        content = read_json(path, "description of a data set")
    except UserError as error:
        findings.error(error, CORRECT)
        return Source("nnU-Net or Decathlon")
    classes = classes_of(content.get("labels"), path, findings)
    channels = _channels(content, path, findings)
    if "training" in content and not {"channel_names", "file_ending"} & content.keys() and not _numbered(folder):
        cases = _listed(content, folder, findings)
        stacked = _stacked(cases, channels, findings)
        return Source("Decathlon", tuple(cases), channels, classes, modality_of(channels), stacked)
    ending = content.get("file_ending", NIFTI[1])
    if ending not in NIFTI:
        findings.add(path, "files as NIfTI (.nii, .nii.gz)", f"file_ending {shown(ending)}", "convert them to NIfTI")
    return Source("nnU-Net", tuple(_folders(folder, len(channels), findings)), channels, classes, modality_of(channels))


def modality_of(channels: tuple[str, ...]) -> str | None:
    """CT or MR, if the names of all channels say so."""
    kinds = {"CT": r"CT", "MR": MR}
    return next((k for k, words in kinds.items() if all(re.fullmatch(words, c, re.I) for c in channels)), None)


def _numbered(folder: Path) -> bool:
    """Whether files are named as nnU-Net's, whose first version had lists, too."""
    return any((folder / "imagesTr").glob("*_0000.nii*"))


def _channels(content: Mapping[str, Any], path: Path, findings: Findings) -> tuple[str, ...]:
    key = "channel_names" if "channel_names" in content else "modality"
    named = content.get(key)
    named = {"0": named} if isinstance(named, str) else named
    keys = {str(number) for number in range(len(named))} if isinstance(named, dict) else set()
    if not isinstance(named, dict) or not named or named.keys() != keys:
        found = shown(named) if key in content else "neither"
        fix = "name the channels, such as {'0': 'CT'}"
        findings.add(path, f"channels by number from 0 at {key!r}", found, fix)
        return ("0",)
    odd = [name for name in named.values() if not isinstance(name, str) or not name.isprintable()]
    if odd:
        findings.add(path, f"names at {key!r}", shown(odd[0]), CORRECT)
        return tuple(sorted(keys, key=int))
    return tuple(named[str(number)] for number in range(len(named)))


def _folders(folder: Path, count: int, findings: Findings) -> list[Case]:
    """The cases of imagesTr/CASE_0000.nii.gz with labelsTr/CASE.nii.gz; Va and Ts alike."""
    cases: list[Case] = []
    present = [part for part in PARTS if (folder / f"images{part}").is_dir()]
    if "Tr" not in present:
        findings.add(
            folder, "a folder imagesTr", "none", "pass the folder that holds imagesTr and labelsTr as --images"
        )
    for part in present:
        images, labels = folder / f"images{part}", folder / f"labels{part}"
        files = find_volumes(images, "images", findings)
        found = [read_name(path, images, numbered=True, affixes=False) for path in files]
        for image in found:
            if not NUMBERED.fullmatch(stem(image.path)):
                fix = f"rename it to {image.name}_0000, or to its channel's number"
                findings.add(image.path, "a name CASE_0000 with the number of the channel", image.path.name, fix)
        paths = find_volumes(labels, "labels", findings) if labels.is_dir() else []
        known = [read_name(path, labels, numbered=False, affixes=False) for path in paths]
        cases += pair(found, known, findings, PARTS[part], count)
    return cases


def _listed(content: Mapping[str, Any], folder: Path, findings: Findings) -> list[Case]:
    cases = []
    for key, role in LISTS.items():
        entries = content.get(key, [])
        if not isinstance(entries, list):
            findings.add(folder / NAME, f"a list of files at {key!r}", shown(entries), CORRECT)
            continue
        for number, entry in enumerate(entries):
            where = f"{key}[{number}]"
            entry = entry if isinstance(entry, dict) else {"image": entry}
            image = _file(entry.get("image"), where, folder, findings)
            label = _file(entry["label"], where, folder, findings) if "label" in entry else None
            if image is not None:
                cases.append(Case(stem(image), "", (image,), label, role))
    return cases


def _file(value: Any, where: str, folder: Path, findings: Findings) -> Path | None:
    """A path of dataset.json; one that leaves the folder is a mistake or worse."""
    expected = f"the path of a NIfTI file below this folder at {where}"
    inside = isinstance(value, str) and "\0" not in value and value.strip() != ""
    pure = PurePosixPath(value) if inside else PurePosixPath("/")
    if pure.is_absolute() or ".." in pure.parts:
        findings.add(folder / NAME, expected, shown(value), CORRECT)
        return None
    path = folder / pure
    if not is_nifti(path):
        findings.add(folder / NAME, expected, shown(value), "convert it to NIfTI, and correct the list")
        return None
    return path


def _stacked(cases: list[Case], channels: tuple[str, ...], findings: Findings) -> bool:
    """Whether images have a fourth axis for the channels; only headers are read."""
    import nibabel as nib

    shapes = []
    for case in cases:
        path = case.images[0]
        if not os.path.isfile(path):  # told with all other files; unlike Path's, False of a name that is too long
            continue
        try:
            image: Any = nib.load(path)
            shape = image.shape
        except Exception as error:  # nibabel's and the decompressors' own
            fix = "download or export the file again"
            findings.add(path, "a NIfTI volume", f"a file that cannot be read ({first_line(error)})", fix)
            continue
        shapes.append(len(shape))
        count = shape[3] if len(shape) == 4 else 1
        if len(shape) not in (3, 4) or count != len(channels):
            size = " x ".join(map(str, shape))
            expected = f"{len(channels)} channels ({', '.join(channels)}), on a fourth axis if there are several"
            findings.add(path, expected, f"{len(shape)}D ({size})", f"export it again, or correct {NAME}")
    return 4 in shapes
