"""Which patients train, with and without labels, and which validate."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.errors import UserError

from .sources import Case

VALIDATES = 0.2  # of the patients with labels


@dataclass(frozen=True)
class Divided:
    """A split file's content, the percentage under which it lists the labelled patients, and the cases that it uses.

    left_out: cases without a label of patients who have labels, too: a patient is one or the other.
    """

    split: dict[str, Any]
    percent: float
    cases: tuple[Case, ...]
    left_out: tuple[Case, ...]


def divide(cases: Sequence[Case], seed: int = 0) -> Divided:
    """Divide by patient. Roles that the data set itself gives are kept; else a fifth of the labelled patients validate.

    Args:
        cases: with their patients.
        seed: of the draw of those who validate.

    Raises:
        UserError: fewer than two patients with labels, or none left to train or to validate with.
    """
    by_patient: dict[str, list[Case]] = {}
    for case in cases:
        by_patient.setdefault(case.patient, []).append(case)
    labelled = sorted(p for p, own in by_patient.items() if any(case.label for case in own))
    roles = {p: _role(by_patient[p]) for p in by_patient}
    test = [p for p in labelled if roles[p] == "test"]
    validation = [p for p in labelled if roles[p] == "validation"]
    rest = [p for p in labelled if p not in test and p not in validation]
    if not validation and len(rest) >= 2:
        drawn = random.Random(seed).sample(rest, max(1, round(VALIDATES * len(rest))))
        validation, rest = sorted(drawn), [p for p in rest if p not in drawn]
    if not rest or not validation:
        found = f"{len(labelled)} with labels, of which {len(rest)} would train and {len(validation)} validate"
        raise UserError(
            "--labels: expected at least two patients with labels, one to train with and one to validate, "
            f"found {found}; label another one"
        )
    unlabelled = sorted(p for p in by_patient if p not in labelled)
    train = [*rest, *unlabelled]
    share = round(100 * len(rest) / len(train), 9)
    split = {
        "source": f"{len(rest)} of {len(train)} training patients have labels; {_told(roles, validation)} validate",
        "train": train,
        "labelled": {f"{share:.10g}": rest},
        "validation": validation,
        "test": test,
    }
    mixed = [case for p in labelled for case in by_patient[p] if case.label is None]
    return Divided(split, share, tuple(case for case in cases if case not in mixed), tuple(mixed))


def _role(own: Sequence[Case]) -> str | None:
    """The role that the data set gives a patient: that of any of the cases, the strictest first."""
    given = {case.role for case in own}
    return next((role for role in ("test", "validation", "train") if role in given), None)


def _told(roles: Mapping[str, str | None], validation: Sequence[str]) -> str:
    drawn = any(roles[p] != "validation" for p in validation)
    return f"{len(validation)} drawn by chance" if drawn else f"the {len(validation)} that the data set names"
