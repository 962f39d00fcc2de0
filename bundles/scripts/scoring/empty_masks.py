"""What a class scores that the prediction, the label or both of them do not have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UserError

OVERLAPS = ("dice", "jaccard")  # all other metrics are distances
# Which side of a class has no voxel; "" where both have some and the scores are measured.
EMPTY_SIDES = ("", "prediction", "label", "both")


class PerSide(NamedTuple):
    """A score where only the prediction, only the label, or both are empty; None is the diagonal of the image."""

    prediction: float | None
    label: float | None
    both: float | None


@dataclass(frozen=True)
class EmptyPolicy:
    """The scores of a class that the prediction, the label or both of them do not have; nan is left out of means."""

    name: str
    description: str
    overlap: PerSide
    distance: PerSide

    def score(self, metric: str, side: str, diagonal: float) -> float:
        """The metric's value for the empty side; diagonal: the image's, in voxels or mm."""
        value: float | None = getattr(self.overlap if metric in OVERLAPS else self.distance, side)
        return diagonal if value is None else value


EMPTY_POLICIES = {
    policy.name: policy
    for policy in (
        EmptyPolicy(
            "strict",
            "one side empty: overlap 0, distance the diagonal of the image; both empty: left out of means",
            overlap=PerSide(prediction=0.0, label=0.0, both=math.nan),
            distance=PerSide(prediction=None, label=None, both=math.nan),
        ),
        EmptyPolicy(
            "zero",
            "as the published 2D results: an empty prediction scores 0 everywhere, in its distances too; label empty, "
            "where those programs stop: overlap 0, distance the diagonal of the image",
            overlap=PerSide(prediction=0.0, label=0.0, both=0.0),
            distance=PerSide(prediction=0.0, label=None, both=0.0),
        ),
        EmptyPolicy(
            "fixed128",
            "as GALoss: one side empty: overlap 0, distance 128; both empty: overlap 1, distance 0",
            overlap=PerSide(prediction=0.0, label=0.0, both=1.0),
            distance=PerSide(prediction=128.0, label=128.0, both=0.0),
        ),
        EmptyPolicy(
            "fixed128_percent",
            "as DHC, A&D and SKCDF: like fixed128, but both empty is 1 on their scale of 0 to 100: overlap 0.01",
            overlap=PerSide(prediction=0.0, label=0.0, both=0.01),
            distance=PerSide(prediction=128.0, label=128.0, both=0.0),
        ),
    )
}


def policy_named(empty: str | EmptyPolicy) -> EmptyPolicy:
    """The policy of this name; a policy stands for itself.

    Raises:
        UserError: an unknown name.
    """
    if isinstance(empty, EmptyPolicy):
        return empty
    if empty not in EMPTY_POLICIES:
        raise UserError(f"empty policy: expected one of {', '.join(EMPTY_POLICIES)}, found {empty!r}")
    return EMPTY_POLICIES[empty]
