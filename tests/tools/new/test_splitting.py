"""Who trains and who validates."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.errors import UserError
from tools.new.sources import Case
from tools.new.splitting import divide


def case(patient: str, number: int = 0, label: bool = True, role: str | None = None) -> Case:
    name = f"{patient}_{number}"
    return Case(name, patient, (Path(name),), Path(f"{name}_gt") if label else None, role)


TEN = [case(f"p{n}") for n in range(10)]
UNLABELLED = [case(f"u{n}", label=False) for n in range(30)]


def test_a_fifth_of_the_labelled_patients_validates_and_the_others_train_before_the_unlabelled() -> None:
    found = divide([*TEN, *UNLABELLED])
    split = found.split
    assert len(split["validation"]) == 2
    assert len(split["train"]) == 38
    (labelled,) = split["labelled"].values()
    assert labelled == split["train"][:8]  # so that a smaller percentage takes some of them
    assert sorted([*split["train"], *split["validation"]]) == sorted(one.patient for one in (*TEN, *UNLABELLED))
    assert found.percent == pytest.approx(100 * 8 / 38)
    assert float(next(iter(split["labelled"]))) == pytest.approx(found.percent)


def test_the_draw_is_the_seeds() -> None:
    drawn = [divide(TEN, seed).split["validation"] for seed in range(8)]
    assert drawn[0] == divide(list(reversed(TEN)), 0).split["validation"]
    assert len({tuple(one) for one in drawn}) > 1


def test_files_of_a_patient_stay_together() -> None:
    cases = [case(f"p{n}", k) for n in range(6) for k in range(3)]
    split = divide(cases).split
    assert not set(split["validation"]) & set(split["train"])
    assert len(split["validation"]) + len(split["train"]) == 6


def test_roles_that_the_data_set_gives_are_kept() -> None:
    given = [case("a", role="validation"), case("b", role="test"), case("c", role="train"), case("d"), *UNLABELLED]
    split = divide(given).split
    assert (split["validation"], split["test"]) == (["a"], ["b"])
    assert list(split["labelled"].values()) == [["c", "d"]]


def test_of_a_partly_labelled_patient_the_other_images_are_left_out_and_named() -> None:
    found = divide([*TEN, case("p3", 1, label=False), *UNLABELLED])
    assert [one.id for one in found.left_out] == ["p3_1"]
    assert "p3_1" not in {one.id for one in found.cases}
    assert len(found.cases) == 40


@pytest.mark.parametrize("cases", [[case("a")], [case("a", 0), case("a", 1)], UNLABELLED, [*UNLABELLED, case("a")]])
def test_one_labelled_patient_cannot_train_and_validate(cases: list[Case]) -> None:
    with pytest.raises(UserError, match="at least two patients with labels"):
        divide(cases)


def test_a_data_set_whose_roles_leave_nobody_to_train_is_told() -> None:
    with pytest.raises(UserError, match="of which 0 would train and 2 validate"):
        divide([case("a", role="validation"), case("b", role="validation")])
