"""How much the experts of a network disagree: on each structure of an image, and on the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

SLAB = 16  # slices that are compared at once
# Of a class's group: see docs/how-to/label.md for the reasons.
WEIGHTS: Mapping[str, float] = {"head": 1.0, "large": 1.5, "medium": 2.0, "small": 2.5, "tail": 3.0}


def differences(
    first: torch.Tensor | NDArray[Any], second: torch.Tensor | NDArray[Any], num_classes: int
) -> dict[int, float]:
    """1 - Dice of two label maps of one shape, for each of the classes 1..num_classes that either of them holds.

    Tensors are compared on their device, a few slices at a time.
    """
    import torch  # here, so that what only weighs scores stays light

    classes = num_classes + 1
    slabs = zip(torch.as_tensor(first).split(SLAB), torch.as_tensor(second).split(SLAB), strict=True)
    pairs = [torch.bincount((a.int() * classes + b.int()).flatten(), minlength=classes**2) for a, b in slabs]
    counts = torch.stack(pairs).sum(0).view(classes, classes).cpu()
    sizes = (counts.sum(1).tolist(), counts.sum(0).tolist(), counts.diagonal().tolist())
    return {c: 1 - 2 * same / (a + b) for c, (a, b, same) in enumerate(zip(*sizes, strict=True)) if c and a + b}


def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Half the sum over the classes of |p - q|, of two sets of probabilities [C, *grid]: [1, *grid].

    A few slices at a time, since the differences of all classes are as large as the probabilities.
    """
    import torch

    slabs = zip(first.split(SLAB, 1), second.split(SLAB, 1), strict=True)
    return torch.cat([0.5 * (p - q).abs().sum(0, keepdim=True) for p, q in slabs], 1)


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
