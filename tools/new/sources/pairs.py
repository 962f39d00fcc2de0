"""Plain folders: images in one, labels in another or beside them, matched by their names.

What tells a name's kind is dropped before names are compared: `_gt`, `_seg`, `-label`, `mask_` and the like of labels;
`img0001` and `label0001` are one case, so are `volume-0` and `segmentation-0`, or `case_0/imaging` and
`case_0/segmentation`. Sub-folders count only where names alone would fit several images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.errors import first_few

from ...common.findings import Findings
from .files import find_volumes, first_files, shown, stem, tell
from .source import Case

LABEL_WORDS = "labels?|labelmap|seg|segmentation|gt|mask"
IMAGE_WORDS = "img|image|imaging|volume"
# Folders that tell the kind of a file and not whose it is, also with nnU-Net's endings.
LABEL_FOLDER = re.compile(rf"({LABEL_WORDS})s?(Tr|Va|Ts)?", re.IGNORECASE)
KIND_FOLDER = re.compile(rf"({LABEL_WORDS}|{IMAGE_WORDS})s?(Tr|Va|Ts)?", re.IGNORECASE)
NUMBERED = re.compile(r"(?P<stem>.+)_(?P<channel>\d{4})")
FIX = (
    "rename the files so that image and label agree, or pass a list of them as --images FILE.csv; "
    "masks of one class each have to be merged into one label map first"
)

Key = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class Named:
    """A file and what its path tells: `place`, the folders that matter, `core`, the name without affixes, channel."""

    path: Path
    place: tuple[str, ...]
    core: str
    name: str
    channel: int = 0

    @property
    def key(self) -> Key:
        """What an image and its label have in common."""
        return self.place, self.core


def find_pairs(images: Path, labels: Path | None, unlabelled: Path | None, findings: Findings) -> list[Case]:
    """The cases of plain folders; an image without a label is an unlabelled case.

    Args:
        images: folder of images; it may hold the labels, too.
        labels: folder of labels; None or `images`: those files of `images` that are named as labels.
        unlabelled: a folder that may lie below the others, and is not searched here.
        findings: takes whatever does not fit together.
    """
    if labels is None or os.path.realpath(labels) == os.path.realpath(images):
        labels = images
    apart = [folder for folder in (labels, unlabelled) if folder not in (None, images)]
    files = find_volumes(images, "images", findings, apart)
    named = [path for path in files if looks_like_label(path, images)]
    files = [path for path in files if not looks_like_label(path, images)]
    if named and not files:
        found = f"only names of labels ({first_files(named)})"
        findings.add(images, "images", found, "pass the folder that holds the images")
    label_files = named
    if labels != images:
        label_files = find_volumes(labels, "labels", findings, [images, *([unlabelled] if unlabelled else [])])
        if named:
            left = f"{len(named)} files are named as labels ({first_files(named)}) and left out"
            findings.note(f"{shown(images)}: {left}; labels are taken from {shown(labels)}")
    known = [read_name(path, labels, numbered=False) for path in label_files]
    numbered = _are_numbered(files, {label.core for label in known})
    return pair([read_name(path, images, numbered) for path in files], known, findings)


def looks_like_label(path: Path, root: Path) -> bool:
    """Whether a file's name, or a folder between it and `root`, says that it is a label."""
    name = stem(path)
    inside = path.relative_to(root).parts[:-1]
    return _without(name, LABEL_WORDS) != name or any(LABEL_FOLDER.fullmatch(folder) for folder in inside)


def _are_numbered(images: Iterable[Path], labels: Collection[str]) -> bool:
    """Whether `_0000` at the end of names is nnU-Net's number of a channel; it is not where labels have it, too."""
    found = [(match, core_of(stem(path))) for path in images if (match := NUMBERED.fullmatch(stem(path)))]
    return any(int(match["channel"]) == 0 for match, _ in found) and not any(core in labels for _, core in found)


def read_name(path: Path, root: Path, numbered: bool, affixes: bool = True) -> Named:
    """What the path of a file below `root` tells; without `affixes` nothing is dropped from its name."""
    name = stem(path)
    match = NUMBERED.fullmatch(name) if numbered else None
    name, channel = (match["stem"], int(match["channel"])) if match else (name, 0)
    return Named(path, place_of(path, root), core_of(name) if affixes else name, name, channel)


def place_of(path: Path, root: Path) -> tuple[str, ...]:
    """The folders between a file and `root` that tell more than its kind."""
    return tuple(part for part in path.relative_to(root).parts[:-1] if not KIND_FOLDER.fullmatch(part))


def core_of(name: str) -> str:
    """A name without what tells image from label; empty if it says nothing else."""
    return _without(_without(name, LABEL_WORDS), IMAGE_WORDS)


def _without(name: str, words: str) -> str:
    if re.fullmatch(words, name, re.IGNORECASE):
        return ""
    name = re.sub(rf"^({words})([-_. ]+|(?=\d))(?=.)", "", name, flags=re.IGNORECASE)
    return re.sub(rf"(?<=.)[-_. ]+({words})$", "", name, flags=re.IGNORECASE)


def pair(
    images: Sequence[Named], labels: Sequence[Named], findings: Findings, role: str | None = None, count: int = 0
) -> list[Case]:
    """Cases of images, a file per channel, with their labels.

    Args:
        images, labels: as their names were read.
        findings: takes files that are left over or fit several others, and channels that are missing.
        role: of all these cases.
        count: how many channels a case has; 0: as many as are found.
    """
    groups: dict[Key, dict[int, Named]] = {}
    for image in images:
        group = groups.setdefault(image.key, {})
        if image.channel in group:
            found = f"another one at {shown(group[image.channel].path)}"
            findings.add(image.path, "an image once", found, "remove or rename one of the two")
        group.setdefault(image.channel, image)
    _check_channels(groups, count, findings)
    names = [group[min(group)].name for group in groups.values()]
    plain = len(set(names)) == len(names)
    found_labels = _labels_of(groups, labels, findings)
    cases = []
    for key, group in groups.items():
        first = group[min(group)]
        name = first.name if plain else "_".join((*first.place, first.name))
        files = tuple(group[channel].path for channel in sorted(group))
        cases.append(Case(name, "", files, found_labels.get(key), role))
    return cases


def _check_channels(groups: dict[Key, dict[int, Named]], count: int, findings: Findings) -> None:
    expected = set(range(count or 1 + max((channel for group in groups.values() for channel in group), default=0)))
    for group in groups.values():
        if group.keys() != expected:
            told = ", ".join(f"_{channel:04d}" for channel in sorted(expected))
            odd = first_few([f"_{channel:04d}" for channel in sorted(group)])
            fix = "add what is missing, or leave out this case"
            findings.add(group[min(group)].path, f"the channels {told} of each case", odd, fix)


def _labels_of(groups: dict[Key, dict[int, Named]], labels: Sequence[Named], findings: Findings) -> dict[Key, Path]:
    """The label of each image that has one; see the module's text for what fits."""
    found: dict[Key, Path] = {}
    by_core: dict[str, list[Key]] = {}
    by_place: dict[tuple[str, ...], list[Key]] = {}
    for place, core in groups:
        by_core.setdefault(core or (place[-1] if place else ""), []).append((place, core))
        by_place.setdefault(place, []).append((place, core))
    left = []
    for label in labels:
        if label.key in groups:
            fitting = [label.key]
        elif label.core:
            fitting = by_core.get(label.core, [])
        else:  # "segmentation.nii.gz", which only its folder tells apart
            fitting = by_place.get(label.place) or by_core.get(label.place[-1] if label.place else "", [])
        if not fitting:
            left.append(label.path)
        elif len(fitting) > 1:
            several = first_files([next(iter(groups[key].values())).path for key in fitting])
            findings.add(label.path, "one image that fits this label", f"{len(fitting)} ({several})", FIX)
        elif fitting[0] in found:
            other = f"another one at {shown(found[fitting[0]])}"
            findings.add(label.path, "one label of an image", other, "remove or rename one of the two")
        else:
            found[fitting[0]] = label.path
    tell(left, "an image that fits this label", "none", FIX, findings)
    return found
