"""dataset.json as nnU-Net defined it: what a download says of itself, compared with what its layout expects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.errors import UserError, first_few
from scripts.files import read_json

from ...common.findings import Findings

FIX = "download it again, or remove it"
LISTS = ("training", "validation", "test")
MODALITIES = {"CT": re.compile(r"\bCT\b", re.IGNORECASE), "MR": re.compile(r"\bMRI?\b", re.IGNORECASE)}


def read_description(path: Path, findings: Findings) -> dict[str, Any]:
    """The content of the file; an empty one, with the reason in `findings`, if it cannot be read."""
    try:
        return read_json(path, "description of the data set")
    except UserError as error:
        findings.error(error, FIX)
        return {}


def check_labels(
    path: Path, content: Mapping[str, Any], labels: Mapping[int, str], spellings: Mapping[str, str], findings: Findings
) -> None:
    """Report classes whose id or name contradicts the layout's; a file that names no classes passes.

    Args:
        path: the file, for messages.
        content: what it holds; "labels" maps ids to names, or, in nnU-Net's second version, names to ids.
        labels: ids and names of the layout.
        spellings: other names of these classes, in small letters and single spaces.
        findings: takes what is wrong.
    """
    if "labels" not in content:
        return
    found = _by_id(content["labels"])
    if found is None:
        findings.add(path, "labels as ids with names", repr(content["labels"])[:80], FIX)
        return
    names = {key: " ".join(re.findall(r"[a-z]+", name.lower())) for key, name in found.items()}
    names = {0: labels[0]} | {key: spellings.get(name, name) for key, name in names.items()}
    wrong = sorted(key for key in names.keys() | labels.keys() if names.get(key) != labels.get(key))
    if wrong:
        expected = ", ".join(f"{key} {labels.get(key, 'unused')}" for key in wrong)
        other = ", ".join(f"{key} {found.get(key, 'missing')}" for key in wrong)
        fix = "correct it, or remove it if the labels hold the expected classes"
        findings.add(path, f"the labels {expected}", other, fix)


def _by_id(labels: Any) -> dict[int, str] | None:
    if not isinstance(labels, dict):
        return None
    if all(key.isdecimal() for key in labels):
        return {int(key): str(name) for key, name in labels.items()}
    if all(isinstance(number, int) for number in labels.values()):
        return {number: name for name, number in labels.items()}
    return None


def named_modalities(path: Path, content: Mapping[str, Any], findings: Findings) -> set[str]:
    """Which of CT and MR the file names; none if it says nothing. Another modality is a problem."""
    said = content.get("modality", content.get("channel_names"))
    if said is None:
        return set()
    words = ", ".join(map(str, said.values())) if isinstance(said, dict) else str(said)
    named = {modality for modality, pattern in MODALITIES.items() if pattern.search(words)}
    if not named:
        findings.add(path, "CT or MRI as its modality", words or "none", FIX)
    return named


def check_listed(path: Path, content: Mapping[str, Any], images: Iterable[Path], findings: Findings) -> list[str]:
    """Report listed training and validation images that do not exist; a file may have been decompressed.

    Labels are not looked up here: whoever pairs them with the images knows which of them may be missing.

    Returns:
        Those of `images` that the file does not list, as FOLDER/NAME; none if it lists nothing at all.
    """
    listed: dict[str, list[str]] = {}
    for key in LISTS:
        entries = content.get(key, [])
        names = [_image_of(entry) for entry in entries] if isinstance(entries, list) else [None]
        listed[key] = [name for name in names if isinstance(name, str)]
        if len(listed[key]) < len(names):
            findings.add(path, f"a list of files at {key!r}", repr(entries)[:80], FIX)
            return []
    needed = [name for key in ("training", "validation") for name in listed[key]]
    missing = [name for name in needed if not any(f.is_file() for f in _variants(path.parent / name))]
    if missing:
        fix = "download the data set again, or remove the file to take the images that are there"
        findings.add(path, "every image that it lists", f"no {first_few(missing)}", fix)
    known = {_key(PurePosixPath(name)) for names in listed.values() for name in names}
    return ["/".join(file.parts[-2:]) for file in images if known and _key(file) not in known]


def _image_of(entry: Any) -> Any:
    return entry.get("image") if isinstance(entry, dict) else entry


def _variants(file: Path) -> tuple[Path, Path]:
    return file, file.with_suffix("")


def _key(file: PurePosixPath | Path) -> tuple[str, str]:
    return file.parent.name, file.name.split(".")[0]
