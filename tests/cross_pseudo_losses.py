"""The losses of weighted cross pseudo supervision in numpy: what the tests of its family compare the code with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scripts.methods.base import Method
from tests import numpy_losses


def twin_logits(method: Method, image: torch.Tensor, image_u: torch.Tensor) -> list[np.ndarray]:
    """Both networks' logits [B_l + B_u, C, *spatial] in double precision."""
    images = torch.cat([image, image_u])
    return [net(images).detach().double().numpy() for net in method.predictor.children()]


def weighted_losses(
    logits: Sequence[np.ndarray],
    label: torch.Tensor,
    weights: Sequence[np.ndarray | None],
    kept: Sequence[np.ndarray] | None = None,
) -> tuple[float, float]:
    """Supervised and cross term, summed over two networks with their own weights [C].

    The cross term is a weighted mean; with `kept` voxels [B, *spatial] it is a plain mean of the weighted values.
    """
    supervised, cross = 0.0, 0.0
    for side, (own, other, weight) in enumerate(zip(logits, logits[::-1], weights, strict=True)):
        supervised += numpy_losses.segmentation(own[: len(label)], label.numpy(), weight)
        pseudo, p = other.argmax(1), numpy_losses.softmax(own)
        if kept is None:
            cross += 0.5 * numpy_losses.cross_entropy(p, pseudo, weight)
        else:
            terms = -np.log(np.take_along_axis(p, pseudo[:, None], 1)[:, 0])
            cross += 0.5 * (terms * (1.0 if weight is None else weight[pseudo]) * kept[side]).mean()
    return supervised, cross


def shares(*labels: np.ndarray, channels: int = 6) -> np.ndarray:
    """Shares [C] of the class ids in all of the arrays together."""
    counts = sum(np.bincount(ids.ravel(), minlength=channels) for ids in labels)
    return counts / counts.sum()
