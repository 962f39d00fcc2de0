"""The losses once more, in numpy and from their formulas: what the tests compare the code with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def softmax(logits: Array) -> Array:
    """Over axis 1."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def dice(p: Array, y: NDArray[np.integer], classes=None, absent="skip", weight=None, mask=None, s=1e-5) -> float:
    """Class by class, over the voxels of the whole batch; p [B, C, *spatial], y [B, *spatial]."""
    weight = np.ones(p.shape[1]) if weight is None else weight
    mask = np.ones(y.shape, bool) if mask is None else mask
    terms = []
    for c in range(p.shape[1]) if classes is None else classes:
        g, q = ((y == c) * mask), p[:, c] * mask
        if absent == "skip" and c > 0 and not g.any():
            continue
        if absent == "probability" and not g.any():
            terms.append(weight[c] * (q**2).sum() / mask.sum())
            continue
        terms.append(weight[c] * (1 - (2 * (q * g).sum() + s) / ((q**2).sum() + (g**2).sum() + s)))
    return np.mean(terms) if terms else 0.0


def cross_entropy(p: Array, y: NDArray[np.integer], weight=None, mask=None) -> float:
    """Weighted mean over the voxels, whose weights are those of their classes times the mask."""
    weights = np.ones(y.shape) if weight is None else np.asarray(weight)[y]
    weights = weights if mask is None else weights * mask
    terms = -np.log(np.take_along_axis(p, y[:, None], 1)[:, 0])
    return np.average(terms, weights=weights)


def segmentation(logits: Array, y: NDArray[np.integer], weight=None, mask=None, classes=None, absent="skip") -> float:
    """L_seg = (Dice + CE) / 2 of logits [B, C, *spatial]."""
    p = softmax(logits)
    return 0.5 * (dice(p, y, classes, absent, weight, mask) + cross_entropy(p, y, weight, mask))
