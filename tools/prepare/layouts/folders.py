"""Layouts that keep images in one folder and labels in another, paired by the number in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from scripts.errors import first_few

from ...common.findings import Findings


def find_folder(
    source: Path, parts: Sequence[str], holding: Sequence[str], expected: str, fix: str, findings: Findings
) -> Path | None:
    """The folder below `source` where a download starts; None, with the reason in `findings`, if there is none.

    Args:
        source: folder that the user named.
        parts: where in it the download may start, the likeliest first.
        holding: the folder sought holds one of these.
        expected, fix: what the message says of the content expected, and of what to do.
        findings: takes why there is none.
    """
    for folder in (source / part for part in parts):
        if any((folder / name).is_dir() for name in holding):
            return folder
    if source.is_dir():
        found = first_few(sorted(entry.name for entry in source.iterdir())) or "an empty folder"
    else:
        found = "a file" if source.exists() else "no such folder"
    findings.add(source, expected, found, fix)
    return None


def paired_files(
    folder: Path, image: str, label: str, allow_unlabelled: bool, findings: Findings
) -> dict[str, tuple[Path, Path | None]]:
    """The images of a folder with their labels, by number as written; uncompressed files are found as well.

    Args:
        folder: where the names start.
        image, label: names with {} for the number, such as "img/img{}.nii.gz"; their folders may be missing.
        allow_unlabelled: take an image without a label, too.
        findings: takes labels without an image, images without a label, and numbers that come twice.
    """
    images, labels = (_numbered(folder / name, findings) for name in (image, label))
    for number in sorted(labels.keys() - images.keys()):
        findings.add(labels[number], f"its image {image.format(number)}", "none", "download the case again")
    pairs = {}
    for number, file in sorted(images.items()):
        if number in labels or allow_unlabelled:
            pairs[number] = (file, labels.get(number))
        else:
            fix = "download the case again, or pass --allow-unlabelled to use it without a label"
            findings.add(folder / label.format(number), f"the label of {file.name}", "no such file", fix)
    return pairs


def _numbered(name: Path, findings: Findings) -> dict[str, Path]:
    """The files that are named so, with digits for {}, by these digits."""
    before, after = (re.escape(part) for part in name.name.removesuffix(".nii.gz").split("{}"))
    pattern = re.compile(rf"{before}(\d+){after}\.nii(\.gz)?")
    files: dict[str, Path] = {}
    for file in sorted(name.parent.iterdir()) if name.parent.is_dir() else []:
        match = pattern.fullmatch(file.name)
        if match and match[1] in files:
            findings.add(file, "each case once", f"the same number in {files[match[1]].name}", "remove one of the two")
        elif match:
            files[match[1]] = file
    return files
