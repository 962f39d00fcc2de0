"""How the cases of a data set are found, whatever its layout; no voxel is read, and all that is wrong is told at once.

A module per layout: described (nnU-Net, Decathlon), bids, pairs (plain folders), lists (CSV, JSON). Each returns a
`Source` (source.py) whose patients may still be unknown; patients.py derives them from names.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...common.findings import Findings
from . import described, lists
from .bids import is_bids, read_bids
from .checks import check
from .classes import read_classes
from .files import find_volumes, shown, stem
from .pairs import find_pairs, looks_like_label, pair, read_name
from .patients import name_patients
from .source import Case, Source

__all__ = ["Case", "Source", "find_cases"]


def find_cases(
    images: Path,
    labels: Path | None,
    unlabelled: Path | None,
    classes: Path | None,
    findings: Findings,
    patient_pattern: str | None = None,
) -> Source:
    """The cases of a data set; see docs/how-to/sources.md for the layouts and how names are matched.

    Args:
        images: folder of images; of a whole data set (nnU-Net, Decathlon, BIDS); or a list of cases (.csv, .json).
        labels: folder of labels; None or `images` where they lie in it, or the data set says where.
        unlabelled: folder, or list, of more images, whose labels are not used.
        classes: file that names the classes; None: a dataset.json does, or nothing.
        findings: takes whatever is wrong. The result is complete only if it has no problem.
        patient_pattern: regular expression whose first group is the patient, in the name of an image; None: by the
            data set itself, else by the rule of patients.py.
    """
    source = _labelled(images, labels, unlabelled, findings)
    if unlabelled is not None:
        known = {os.path.realpath(path) for case in source.cases for path in case.images}
        more = [replace(case, label=None, role=None) for case in _unlabelled(unlabelled, source, findings)]
        more = [case for case in more if os.path.realpath(case.images[0]) not in known]
        source = replace(source, cases=(*source.cases, *more))
    if classes is not None:
        source = replace(source, classes=read_classes(classes, findings))
    roots = [path if os.path.isdir(path) else path.parent for path in (unlabelled, images) if path]
    cases = name_patients(source.cases, roots, patient_pattern, findings)
    source = replace(source, cases=tuple(cases))
    check(source, images, findings)
    return source


def _labelled(images: Path, labels: Path | None, unlabelled: Path | None, findings: Findings) -> Source:
    folder = images.parent if images.name == described.NAME else images
    is_list = os.path.isfile(images) and images.suffix.lower() in lists.ENDINGS and folder == images
    if is_list or os.path.isfile(folder / described.NAME):
        _expect_no_other(labels, images if is_list else folder, findings)
        return lists.read_list(images, findings) if is_list else described.read_described(folder, findings)
    if is_bids(images):
        apart = [] if unlabelled is None else [unlabelled]
        return read_bids(images, None if labels is None or _same(labels, images) else labels, apart, findings)
    if os.path.isfile(above := images.parent / described.NAME):
        findings.note(f"{shown(above)} is not used; to use it, pass its folder as --images, or it as --classes")
    cases = find_pairs(images, labels, unlabelled, findings)
    return Source("plain folders", tuple(cases), _numbers(cases))


def _unlabelled(folder: Path, source: Source, findings: Findings) -> tuple[Case, ...]:
    """More images: a list, folders as BIDS has them, or plain ones with the channels of the others."""
    if os.path.isfile(folder) and folder.suffix.lower() in lists.ENDINGS:
        return lists.read_list(folder, findings).cases
    if is_bids(folder):
        return read_bids(folder, None, (), findings).cases
    files = [path for path in find_volumes(folder, "images", findings) if not looks_like_label(path, folder)]
    count = 1 if source.stacked else len(source.channels)
    numbered = source.layout == "nnU-Net" or count > 1 or all(stem(path).endswith("_0000") for path in files)
    if not files:
        findings.add(folder, "unlabelled images", "none", "correct the path, or leave out --unlabelled")
    return tuple(pair([read_name(path, folder, numbered) for path in files], [], findings, count=count))


def _numbers(cases: list[Case]) -> tuple[str, ...]:
    return tuple(str(channel) for channel in range(max((len(case.images) for case in cases), default=1)))


def _expect_no_other(labels: Path | None, images: Path, findings: Findings) -> None:
    """A data set that says where its labels are has no use for other ones."""
    if labels is not None and not Path(os.path.realpath(labels)).is_relative_to(os.path.realpath(images)):
        fix = "leave out --labels, or pass the folders of images and of labels instead"
        findings.add(labels, f"the labels that {images.name} names", "another folder", fix)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)  # unlike Path's, of links in a circle, too
