"""Datalists and splits: which cases there are, and which role each has."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from ..errors import UserError, first_few
from ..files import sha256
from ..validation import read_valid
from .channels import files_of

logger = logging.getLogger(__name__)

ROLES = ("train", "validation", "test")  # of which a patient has one


def patients_by_role(split: str | Path, percent: float) -> dict[str, list[str]]:
    """The patients of a split file as "labelled", "unlabelled", "validation" and "test" (arguments of `load_split`).

    Raises:
        UserError: a file that is no split, patients with two roles, or a percentage that gives no patient.
    """
    lists = _read_split(split)
    train = lists["train"]
    labelled = _labelled_patients(train, lists["labelled"], percent, split)
    return {
        "labelled": labelled,
        "unlabelled": [p for p in train if p not in set(labelled)],
        "validation": lists["validation"],
        "test": lists["test"],
    }


def read_datalist(path: str | Path) -> dict[str, Any]:
    """A datalist as its schema has it: "cases", and "labels", "name", "modality" where it says them.

    Raises:
        UserError: no datalist, two cases of one id, or an image that stands in it under two patients.
    """
    content = read_valid(path, "datalist", "datalist", "correct it (docs/how-to/datalist.md) or prepare the data anew")
    ids = Counter(case["id"] for case in content["cases"])
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise UserError(f"{path}: expected every id once, found {first_few(twice)} more often; give each case its own")
    patients: dict[str, set[str | int]] = {}
    for case in content["cases"]:
        for file in files_of(case["image"]):
            patients.setdefault(os.path.normpath(file), set()).add(case["patient"])
    shared = [f"{image} of {first_few(sorted(map(str, of)))}" for image, of in patients.items() if len(of) > 1]
    if shared:
        raise UserError(f"{path}: expected every image under one patient, found {first_few(shared)}; correct the list")
    return content


def _read_split(split: str | Path) -> dict[str, Any]:
    """The lists of a split file, in which no patient has two roles; see `load_split`."""
    content = read_valid(split, "split file", "split", "correct it, see docs/how-to/datalist.md")
    lists = {"test": [], "labelled": {}} | content
    named = {role: lists[role] for role in ROLES}
    named |= {f"labelled {percent}": patients for percent, patients in lists["labelled"].items()}
    problems = _double_roles(named, validation_trains=lists.get("validation_trains", False))
    if problems:
        raise UserError(
            f"{split}: expected each patient once, in one of train, validation and test, and labelled ones in train, "
            f"found {'; '.join(problems)}; give each patient one role, or scores are of patients that trained"
        )
    return lists


def _double_roles(named: Mapping[str, Sequence[str]], validation_trains: bool) -> list[str]:
    """What is wrong with the lists of a split; with `validation_trains`, validation may share patients with train."""
    members = {key: set(patients) for key, patients in named.items()}
    found = [
        ([p for p in named[one] if p in members[other]], f"in both {one} and {other}")
        for one, other in combinations(ROLES, 2)
        if not (validation_trains and (one, other) == ("train", "validation"))
    ]
    for key, patients in named.items():
        found.append(([p for p, count in Counter(patients).items() if count > 1], f"twice in {key}"))
        if key not in ROLES:
            found.append(([p for p in patients if p not in members["train"]], f"in {key} and not in train"))
    return [f"{first_few([*dict.fromkeys(patients)])} {where}" for patients, where in found if patients]


def load_split(datalist: str | Path, split: str | Path, percent: float) -> dict[str, list[dict[str, Any]]]:
    """The cases of each role.

    Args:
        datalist: file written by `python -m tools prepare` or `phantom`.
        split: split file: "train", "validation", "test" list patients, "labelled" maps a percentage to the labelled
            patients as published. Any other percentage p takes the first floor(p * n / 100) of the n patients in
            "train". "validation_trains": true lets validation share patients with "train".
        percent: share of the training patients whose labels may be used.

    Returns:
        "labelled", "unlabelled", "validation", "test": lists of {"id", "image", "label", "spacing", "modality"}
        with absolute paths (a list of them for several channels), without what the datalist does not say; an unlabelled
        case has no "label", whether or not a file exists.

    Raises:
        UserError: a missing file, patients with two roles, a percentage that gives no patient, patients of the split
            that the datalist lacks, a labelled, validation or test case without a label.
    """
    cases = read_datalist(datalist)["cases"]
    roles = patients_by_role(split, percent)
    by_patient: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        by_patient.setdefault(case["patient"], []).append(case)
    root = Path(datalist).resolve().parent
    result = {}
    missing: dict[str, list[str]] = {}
    for role, patients in roles.items():
        missing[role] = [p for p in patients if p not in by_patient]
        chosen = [case for p in patients for case in by_patient.get(p, [])]
        result[role] = [_item(case, root, with_label=role != "unlabelled") for case in chosen]
        unlabelled = [item["id"] for item in result[role] if role != "unlabelled" and "label" not in item]
        if unlabelled:
            raise UserError(
                f"{datalist}: expected a label for every {role} case, found none for {', '.join(unlabelled)}"
            )
    absent = [p for role in ("labelled", "unlabelled", "validation") for p in missing[role]]
    if absent:
        raise UserError(
            f"{datalist}: expected every training and validation patient of {split}, found none of "
            f"{first_few(absent, 8)}; prepare the whole data set, or pass a split file of your own"
        )
    if shared := images_in_two_roles(result):
        raise UserError(
            f"{datalist}: expected every image in one role of {split}, found {first_few(shared)} with the same one; "
            "give them one role, or leave one out (`python -m tools doctor` finds copies that differ, too)"
        )
    if missing["test"]:
        logger.warning("%s: %d test patients of the split are not in the datalist", datalist, len(missing["test"]))
    logger.info(
        "split %s at %g %%: %s",
        split,
        percent,
        ", ".join(f"{len(items)} {role} cases of {len(roles[role])} patients" for role, items in result.items()),
    )
    return result


def images_in_two_roles(roles: Mapping[str, Sequence[Mapping[str, Any]]], root: Path = Path()) -> list[str]:
    """The groups of `copies_across_roles`, as parts of a message."""
    return [" and ".join(f"{name} ({role})" for name, role in group) for group in copies_across_roles(roles, root)]


def copies_across_roles(
    roles: Mapping[str, Sequence[Mapping[str, Any]]], root: Path = Path()
) -> list[list[tuple[str, str]]]:
    """Different cases of training, validation and test whose image files are the same, byte for byte.

    Only files of one size are opened, and read as a whole only where their middles agree, so that it costs little.
    Files that do not exist are passed over.

    Args:
        roles: cases by "labelled", "unlabelled" (both of which train), "validation" and "test".
        root: folder from which relative paths start.

    Returns:
        Groups of (id, role), the role of both that train being "training".
    """
    files = [
        (root / file, "training" if role in ("labelled", "unlabelled") else role, case["id"])
        for role, cases in roles.items()
        for case in cases
        for file in files_of(case["image"])
    ]
    groups = [[file for file in files if os.path.isfile(file[0])]]  # False, too, of a name that no disk can hold
    for of in (lambda path: path.stat().st_size, _middle, sha256):
        alike: dict[Any, list[tuple[Path, str, str]]] = {}
        for number, group in enumerate(groups):
            for file in group:
                alike.setdefault((number, of(file[0])), []).append(file)
        groups = [group for group in alike.values() if _is_leak(group)]
    cases = ([(name, role) for _, role, name in group] for group in groups)
    return [*map(list, dict.fromkeys(tuple(dict.fromkeys(group)) for group in cases))]  # once, of several channels


def _is_leak(files: Sequence[tuple[Path, str, str]]) -> bool:
    """Whether two of them are of different cases in different roles."""
    return any(one[1] != other[1] and one[2] != other[2] for one, other in combinations(files, 2))


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(4096)


class Split(dict[str, list[dict[str, Any]]]):
    """What `load_split` returns, read when a role is first asked for.

    An application that brings cases of its own (MONAI Label replaces the data of the labelled and of the validation
    set) asks for none, and needs no datalist.

    Args:
        datalist: file written by `python -m tools prepare` or `phantom`.
        split: file that lists the patients of each role (`load_split`).
        percent: share of the training patients whose labels may be used.

    Example:
        >>> split = Split("datalist.json", "split.json", percent=50)
        >>> [case["id"] for case in split["labelled"]], [case["id"] for case in split["unlabelled"]]
        (['a'], ['b'])
    """

    def __init__(self, datalist: str | Path, split: str | Path, percent: float) -> None:
        super().__init__()
        self._source = (datalist, split, percent)

    def __missing__(self, role: str) -> list[dict[str, Any]]:
        self.update(load_split(*self._source))
        if role not in self:
            raise KeyError(role)
        return self[role]

    def unlabelled_beside(self, labelled: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The unlabelled cases of this split if these are its labelled ones; none beside cases from elsewhere."""
        return self["unlabelled"] if labelled == self.get("labelled") else []


def _labelled_patients(
    train: Sequence[str], published: Mapping[str, Sequence[str]], percent: float, split: str | Path
) -> list[str]:
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent <= 100:
        raise UserError(f"percent: expected a number above 0 and at most 100, found {percent!r}")
    named = {float(key): list(patients) for key, patients in published.items()}
    if float(percent) in named:
        return named[float(percent)]
    count = math.floor(percent * len(train) / 100 + 1e-9)
    if count == 0:
        raise UserError(
            f"percent: expected at least one labelled patient, found {percent} % of {len(train)} patients in {split}; "
            f"use {100 / len(train):.3g} or more"
        )
    return list(train[:count])


def _item(case: Mapping[str, Any], root: Path, with_label: bool) -> dict[str, Any]:
    image = case["image"]
    joined = str(root / image) if isinstance(image, str) else [str(root / file) for file in image]
    item = {"id": case["id"], "image": joined}
    if "spacing" in case:
        item["spacing"] = list(case["spacing"])
    if "modality" in case:
        item["modality"] = case["modality"]
    if with_label and "label" in case:
        item["label"] = str(root / case["label"])
    return item
