"""The published splits of every bundle: whole, without overlap, and of the sizes that their sources name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripts.data.datalists import patients_by_role
from tools.common.paths import BUNDLES

SPLITS = {path.relative_to(BUNDLES).as_posix(): path for path in sorted(BUNDLES.glob("dca_*/splits/*.json"))}
ROLES = ("train", "validation", "test")
SYNAPSE = (20, 4, 6)
# Patients of each role, and labelled ones of each published percentage.
SIZES: dict[str, tuple[tuple[int, int, int], dict[str, int]]] = {
    "dca_acdc/splits/published.json": ((70, 10, 20), {"5": 3, "10": 7}),
    "dca_amos/splits/published.json": ((216, 24, 120), {"2": 4, "5": 10, "10": 21}),
    "dca_synapse/splits/family_a.json": (SYNAPSE, {"10": 2, "20": 4, "40": 8}),
    "dca_synapse/splits/family_b.json": (SYNAPSE, {"10": 2, "20": 4, "40": 8}),
    "dca_synapse/splits/family_c.json": (SYNAPSE, {"20": 4}),
}


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SPLITS[name].read_text(encoding="utf-8"))
    return content


def test_every_split_file_is_known_here() -> None:
    assert SPLITS.keys() == SIZES.keys()


@pytest.mark.parametrize("name", SIZES)
def test_split_has_its_published_sizes(name: str) -> None:
    split = read(name)
    assert tuple(len(split[role]) for role in ROLES) == SIZES[name][0]
    assert {percent: len(patients) for percent, patients in split["labelled"].items()} == SIZES[name][1]
    assert split["source"]


@pytest.mark.parametrize("name", SIZES)
def test_a_patient_has_one_role_and_stands_in_each_list_once(name: str) -> None:
    split = read(name)
    patients = [patient for role in ROLES for patient in split[role]]
    assert len(set(patients)) == len(patients)
    for labelled in split["labelled"].values():
        assert len(set(labelled)) == len(labelled)
        assert set(labelled) <= set(split["train"])


@pytest.mark.parametrize(("name", "percent"), [(name, percent) for name in SIZES for percent in SIZES[name][1]])
def test_published_percentage_divides_the_training_patients(name: str, percent: str) -> None:
    split = read(name)
    roles = patients_by_role(SPLITS[name], float(percent))
    assert roles["labelled"] == split["labelled"][percent]
    assert len(roles["unlabelled"]) == len(split["train"]) - len(roles["labelled"])
    assert set(roles["labelled"]) | set(roles["unlabelled"]) == set(split["train"])


def test_families_of_synapse_divide_the_same_thirty_patients() -> None:
    families = [read(f"dca_synapse/splits/family_{letter}.json") for letter in "abc"]
    everyone = [{patient for role in ROLES for patient in family[role]} for family in families]
    assert everyone[0] == everyone[1] == everyone[2] == {f"{n:04d}" for n in (*range(1, 11), *range(21, 41))}
    a, b, c = families
    assert b["test"] == c["test"]
    assert len(set(b["test"]) & set(a["train"])) == 5


def test_amos_has_ct_and_mr_in_every_role_as_published() -> None:
    split = read("dca_amos/splits/published.json")
    lists = {role: split[role] for role in ROLES} | split["labelled"]
    mr = {name: sum(int(patient.removeprefix("amos_")) > 500 for patient in lists[name]) for name in lists}
    assert mr == {"train": 34, "validation": 6, "test": 20, "2": 0, "5": 3, "10": 5}
