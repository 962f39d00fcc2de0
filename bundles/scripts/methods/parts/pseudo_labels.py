"""Class ids out of a network's own logits, to be learnt from where there is no label."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage


@torch.no_grad()
def hard_labels(logits: torch.Tensor) -> torch.Tensor:
    """Logits or probabilities [B, C, *spatial] to their most probable class [B, *spatial], without a gradient."""
    return logits.max(1).indices  # argmax, in a third of the time on a CPU


def largest_components(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Class ids [B, *spatial] with all but the largest connected part of each class in each image set to background.

    Parts that touch at a corner are connected.
    """
    kept = np.zeros(labels.shape, np.int64)
    neighbours = ndimage.generate_binary_structure(labels.dim() - 1, labels.dim() - 1)
    for image, out in zip(labels.cpu().numpy(), kept, strict=True):
        boxes = ndimage.find_objects(image, max_label=num_classes)
        for c, box in enumerate(boxes, start=1):
            if box is not None:
                parts, _ = ndimage.label(image[box] == c, neighbours)
                sizes = np.bincount(parts.ravel())
                out[box][parts == 1 + sizes[1:].argmax()] = c
    return torch.from_numpy(kept).to(labels.device)
