"""Folders named as BIDS has it: sub-XX[/ses-YY]/anat/sub-XX[_ses-YY]..._T1w.nii.gz, labels ..._dseg.nii.gz.

What is the same in subject, session and run is one case. Its images differ in the suffix (T1w, FLAIR) or in what else
stands before it (acq-fast_T1w, ce-gad_T1w): each is a channel. Labels lie beside the images, below derivatives/, or in
a folder of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from scripts.errors import first_few

from ...common.findings import Findings
from .described import modality_of
from .files import find_volumes, first_files, shown, stem
from .source import Case, Source

FILE = re.compile(r"(?P<entities>sub-[a-zA-Z0-9]+(?:_[a-zA-Z0-9]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)")
OF_A_CASE = ("sub", "ses", "run")
LABELS = ("dseg", "seg", "label", "mask")  # the first of them that is found
Key = tuple[tuple[str, str], ...]


def is_bids(folder: Path) -> bool:
    """Whether a folder has a file named so in a folder of a subject."""
    return os.path.isdir(folder) and any(FILE.fullmatch(stem(path)) for path in folder.glob("sub-*/**/*.nii*"))


def read_bids(folder: Path, labels: Path | None, apart: Iterable[Path], findings: Findings) -> Source:
    """The cases of the subjects' folders.

    Args:
        folder: which holds sub-XX and, maybe, derivatives.
        labels: folder that holds labels, at any depth; None: they are in `folder`.
        apart: folders that are left out.
        findings: takes what does not fit together.
    """
    files = find_volumes(folder, "images", findings, [*apart, *([labels] if labels else [])])
    further = find_volumes(labels, "labels", findings, [folder]) if labels else []
    subjects = [path for path in files if path.relative_to(folder).parts[0].startswith("sub-")]
    named = [path for path in subjects if FILE.fullmatch(stem(path))]
    anatomical = [path for path in named if path.parent.name == "anat"] or named
    images = [path for path in anatomical if _suffix(path) not in LABELS]
    found = _labels([path for path in [*files, *further] if FILE.fullmatch(stem(path))], findings)
    groups: dict[Key, dict[str, Path]] = {}
    for path in images:
        key, channel = _read(path)
        group = groups.setdefault(key, {})
        if channel in group:
            findings.add(path, "an image once", f"another one at {shown(group[channel])}", "remove one of the two")
        group[channel] = path
    channels = _channels(groups, findings)
    label_of = _pair(groups, found, findings)
    cases = []
    for key, group in groups.items():
        name = "_".join("-".join(entity) for entity in key)
        paths = tuple(group[channel] for channel in channels if channel in group)
        cases.append(Case(name, f"sub-{key[0][1]}", paths, label_of.get(key)))
    return Source("BIDS", tuple(cases), channels or ("0",), None, modality_of(channels) if channels else None)


def _suffix(path: Path) -> str:
    return stem(path).rpartition("_")[2]


def _entities(path: Path) -> list[tuple[str, str]]:
    pairs = [entity.partition("-") for entity in stem(path).split("_")[:-1]]
    return [(key, value) for key, _, value in pairs]


def _read(path: Path) -> tuple[Key, str]:
    """The case of an image and the name of its channel."""
    entities = _entities(path)
    key = tuple(entity for entity in entities if entity[0] in OF_A_CASE)
    others = ["-".join(entity) for entity in entities if entity[0] not in OF_A_CASE]
    return key, "_".join([*others, _suffix(path)])


def _labels(paths: list[Path], findings: Findings) -> list[Path]:
    """The files of one of the suffixes of labels; others may be brain masks."""
    by_suffix = {suffix: [path for path in paths if _suffix(path) == suffix] for suffix in LABELS}
    used = next((suffix for suffix in LABELS if by_suffix[suffix]), None)
    passed = [path for suffix in LABELS if suffix != used for path in by_suffix[suffix]]
    if passed:
        found = f"{len(passed)} files ({first_files(passed)}) are passed over"
        findings.note(f"labels are the files that end in _{used}; {found}")
    return by_suffix[used] if used else []


def _channels(groups: dict[Key, dict[str, Path]], findings: Findings) -> tuple[str, ...]:
    """The channels of all cases; one that some cases lack is a problem."""
    channels = list(dict.fromkeys(channel for group in groups.values() for channel in sorted(group)))
    for group in groups.values():
        missing = [channel for channel in channels if channel not in group]
        if missing:
            fix = "add them, take the case away, or pass a list of the files as --images FILE.csv"
            path = next(iter(group.values()))
            expected = f"the channels {first_few(channels)} of each case"
            findings.add(path, expected, f"no {first_few(missing)}", fix)
    return tuple(channels)


def _pair(groups: dict[Key, dict[str, Path]], labels: list[Path], findings: Findings) -> dict[Key, Path]:
    found: dict[Key, Path] = {}
    for label in labels:
        said = {entity for entity in _entities(label) if entity[0] in OF_A_CASE}
        fitting = [key for key in groups if said <= set(key)]
        exact = [key for key in fitting if said == set(key)] or fitting
        if len(exact) != 1:
            fix = "name subject, session and run as the image does"
            findings.add(label, "one case that fits this label", str(len(exact) or "none"), fix)
        elif exact[0] in found:
            other = f"another one at {shown(found[exact[0]])}"
            findings.add(label, "one label of a case", other, "take one of the two away")
        else:
            found[exact[0]] = label
    return found
