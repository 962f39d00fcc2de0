"""Label maps of made-up cases for the tests of scores."""

from __future__ import annotations

import numpy as np
import torch


def random_case(rng, shape, num_classes):
    """Two related label maps of blocks and noise."""
    label = np.zeros(shape, np.uint8)
    for c in range(1, num_classes + 1):
        corner = [rng.integers(0, n) for n in shape]
        label[tuple(slice(a, a + rng.integers(1, n + 1)) for a, n in zip(corner, shape, strict=True))] = c
    prediction = np.roll(label, int(rng.integers(-2, 3)), axis=int(rng.integers(len(shape))))
    noise = rng.random(shape) < 0.15
    prediction[noise] = rng.integers(0, num_classes + 1, noise.sum())
    return prediction, label


def empty_case():
    """Classes 1 to 4 of a 30 x 40 image: empty in the prediction, in the label, in both, in none."""
    prediction, label = np.zeros((2, 30, 40), np.uint8)
    label[3, 4], prediction[5, 6] = 1, 2
    label[8:12, 8:12] = prediction[8:12, 8:12] = 4
    return prediction, label


def volumes(seed, cases=3):
    """[B, 1, *spatial] predictions and labels of class ids 0..3."""
    pairs = [random_case(np.random.default_rng(seed + b), (6, 8, 5), 3) for b in range(cases)]
    return tuple(torch.from_numpy(np.stack(side)[:, None]) for side in zip(*pairs, strict=True))
