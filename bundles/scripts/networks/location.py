"""A head that tells from which part of the image a crop comes."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Act, Pool
from monai.networks.layers.utils import get_act_layer
from torch import nn

POOLED = 2  # voxels per axis: what a crop of 32 voxels comes down to by itself


class LocationHead(nn.Module):
    """Two fully connected layers from a crop's deepest feature map to the position that it has in a grid (MagicNet).

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the feature map.
        positions: how many there are.
    """

    def __init__(self, spatial_dims: int, in_channels: int, positions: int) -> None:
        super().__init__()
        inputs = in_channels * POOLED**spatial_dims
        self.pool = Pool[Pool.ADAPTIVEAVG, spatial_dims](POOLED)
        self.layers = nn.Sequential(
            nn.Linear(inputs, 2 * inputs),
            nn.BatchNorm1d(2 * inputs),
            get_act_layer((Act.LEAKYRELU, {"negative_slope": 0.01})),
            nn.Linear(2 * inputs, positions),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in_channels, *spatial] of any size to logits [B, positions]."""
        logits: torch.Tensor = self.layers(self.pool(features).flatten(1))
        return logits
