"""A critic that judges a segmentation voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Act, Norm
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import nn

from .convolutions import POINTWISE

WIDTHS = (16, 32, 64)


class VoxelCritic(nn.Module):
    """1^d convolutions from class probabilities to the logit of their being a label (Co-BioNet).

    Args:
        spatial_dims: 2 or 3.
        channels: classes, background included.
        widths: of the hidden layers.
    """

    def __init__(self, spatial_dims: int, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        convolution = POINTWISE[spatial_dims]
        layers: list[nn.Module] = []
        for width in widths:
            layers += [
                convolution(channels, width, 1),
                get_norm_layer((Norm.BATCH, {}), spatial_dims, width),
                get_act_layer((Act.LEAKYRELU, {"negative_slope": 0.2})),
            ]
            channels = width
        self.layers = nn.Sequential(*layers, convolution(channels, 1, 1))

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        """[B, C, *spatial] to logits [B, *spatial]."""
        logits: torch.Tensor = self.layers(probabilities).squeeze(1)
        return logits
