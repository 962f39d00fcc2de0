"""Datalists and splits: which cases there are, and which role each has."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from ..errors import UserError, first_few
from ..files import read_json

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


def _read_split(split: str | Path) -> dict[str, Any]:
    """The lists of a split file, in which no patient has two roles; see `load_split`."""
    content = read_json(split, "split file")
    for key in ("train", "validation"):
        if key not in content:
            raise UserError(f"{split}: expected a key {key!r} with a list of patients, found {sorted(content)}")
    lists = {"test": [], "labelled": {}} | content
    published = lists["labelled"]
    if not isinstance(published, dict):
        kind = type(published).__name__
        raise UserError(f"{split}: expected a mapping of percentages to patients at 'labelled', found a {kind}")
    named = {role: lists[role] for role in ROLES}
    named |= {f"labelled {percent}": patients for percent, patients in published.items()}
    for key, patients in named.items():
        others = [p for p in patients if not isinstance(p, str | int)] if isinstance(patients, list) else [patients]
        if others:
            found = f"a {type(others[0]).__name__}" + (" in it" if isinstance(patients, list) else "")
            raise UserError(f"{split}: expected a list of patients at {key!r}, found {found}")
    problems = _double_roles(named, validation_trains=lists.get("validation_trains") is True)
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
        with absolute paths, without what the datalist does not say; an unlabelled case has no "label", whether or not a
        file exists.

    Raises:
        UserError: a missing file, patients with two roles, a percentage that gives no patient, patients of the split
            that the datalist lacks, a labelled, validation or test case without a label.
    """
    cases = read_json(datalist, "datalist")
    roles = patients_by_role(split, percent)
    by_patient: dict[str, list[dict[str, Any]]] = {}
    for case in cases["cases"]:
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
    if missing["test"]:
        logger.warning("%s: %d test patients of the split are not in the datalist", datalist, len(missing["test"]))
    logger.info(
        "split %s at %g %%: %s",
        split,
        percent,
        ", ".join(f"{len(items)} {role} cases of {len(roles[role])} patients" for role, items in result.items()),
    )
    return result


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
    named = {_as_percent(key, split): list(patients) for key, patients in published.items()}
    if float(percent) in named:
        return named[float(percent)]
    count = math.floor(percent * len(train) / 100 + 1e-9)
    if count == 0:
        raise UserError(
            f"percent: expected at least one labelled patient, found {percent} % of {len(train)} patients in {split}; "
            f"use {100 / len(train):.3g} or more"
        )
    return list(train[:count])


def _as_percent(key: str, split: str | Path) -> float:
    try:
        return float(key)
    except ValueError:
        raise UserError(f"{split}: expected percentages at 'labelled', found {key!r}") from None


def _item(case: Mapping[str, Any], root: Path, with_label: bool) -> dict[str, Any]:
    item = {"id": case["id"], "image": str(root / case["image"])}
    if "spacing" in case:
        item["spacing"] = list(case["spacing"])
    if "modality" in case:
        item["modality"] = case["modality"]
    if with_label and "label" in case:
        item["label"] = str(root / case["label"])
    return item
