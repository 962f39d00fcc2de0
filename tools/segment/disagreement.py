"""How much the experts of a network disagree: on each structure of an image, and on the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of a class's group: see docs/how-to/label.md for the reasons.
WEIGHTS: Mapping[str, float] = {"head": 1.0, "medium": 2.0, "tail": 3.0}


def differences(first: NDArray[Any], second: NDArray[Any], num_classes: int) -> dict[int, float]:
    """1 - Dice of two label maps of one shape, for each of the classes 1..num_classes that either of them holds."""
    sizes = [
        np.bincount(labels.ravel().astype(np.int64), minlength=num_classes + 1)
        for labels in (first, second, first[first == second])
    ]
    return {
        c: float(1 - 2 * same / (a + b))
        for c, (a, b, same) in enumerate(zip(*sizes, strict=True))
        if 1 <= c <= num_classes and a + b
    }


def by_group(scores: Mapping[int, float], groups: Mapping[int, str], names: Mapping[int, str]) -> dict[str, Any]:
    """Scores per class (see `segmenter.Result`) as {group: {name of the class: score}}, without empty groups."""
    return {
        group: {names[c]: score for c, score in scores.items() if groups[c] == group}
        for group in WEIGHTS
        if any(groups[c] == group for c in scores)
    }


def overall(organs: Mapping[str, Mapping[str, float]], weights: Mapping[str, float] = WEIGHTS) -> float:
    """The mean over the structures that either prediction sees, weighted by their groups: 0 agrees, 1 disagrees.

    Args:
        organs: scores by group and structure, as `by_group` gives them.
        weights: of each group, 0 or more.

    Returns:
        The mean; 1 where nothing that has a weight is seen, since a person has to look at that.
    """
    pairs = [(weights[group], score) for group, scores in organs.items() for score in scores.values()]
    total = sum(weight for weight, _ in pairs)
    return sum(weight * score for weight, score in pairs) / total if total else 1.0
