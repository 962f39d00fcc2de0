"""The decoder D_A of DCA, and what it adds of the experts' features (DCA, Aggregate)."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from .blocks import output_conv
from .convolutions import POINTWISE, convolve_projected
from .encoder_decoder import DECODER_CONVS, DecoderLevel, coarse_outputs, level_widths


class DFAM(nn.Module):
    """Dynamic feature aggregation: voxel-wise attention over the experts' features of one level (DCA, Aggregate).

    Args:
        spatial_dims: 2 or 3.
        width: channels w of the level.
        experts: number of experts E.
        features: "raw" weighs the experts' features themselves, "projected" their 1^d projections.
    """

    def __init__(self, spatial_dims: int, width: int, experts: int, features: str = "raw") -> None:
        super().__init__()
        pointwise = POINTWISE[spatial_dims]
        self.projected = features == "projected"
        # Any: the type checker takes the parts of a container for modules without weights.
        self.project: Any = nn.ModuleList(pointwise(width, width, 1) for _ in range(experts))
        first = Conv[Conv.CONV, spatial_dims](experts * width, width, 3, padding=1)
        last = pointwise(width, experts, 1)
        self.attend: Any = nn.Sequential(first, nn.ReLU(inplace=True), last, nn.Softmax(dim=1))

    def attention(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """E maps [B, w, *spatial] to the attention [B, E, *spatial], which sums to one at every voxel.

        Each map is projected; the projections are concatenated, convolved, and turned into weights.
        """
        weights: list[torch.Tensor] = []
        biases: list[torch.Tensor] = []
        for project in self.project:
            bias = project.bias
            assert bias is not None  # for TorchScript, where a convolution's bias is optional
            weights.append(project.weight)
            biases.append(bias)
        first = self.attend[0]
        mixed = convolve_projected(maps, weights, biases, first.weight, first.bias)
        return self.attend[3](self.attend[2](self.attend[1](mixed)))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """E maps [B, w, *spatial] to their weighted sum [B, w, *spatial]."""
        weights = self.attention(maps)
        chosen = maps
        if self.projected:
            chosen = []
            for i, project in enumerate(self.project):
                chosen.append(project(maps[i]))
        summed = weights[:, :1] * chosen[0]
        for i in range(1, len(chosen)):
            summed = torch.addcmul(summed, weights[:, i : i + 1], chosen[i])
        return summed


class NoFeatures(nn.Module):
    """In the place of a DFAM: nothing of the experts is added."""

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor | None:
        """Whatever the maps are, None."""
        return None


class AggregationDecoder(nn.Module):
    """The decoder D_A: at its levels a DFAM adds the experts' features to the up-sampled stream.

    Args:
        style, spatial_dims, out_channels, width, norm: as of a `Decoder`.
        experts: number of experts.
        dfam: "raw" or "projected" features; "none" makes an ordinary decoder that sees nothing of the experts.
        dfam_levels: how many levels have a DFAM, the deepest first.
        deep_supervision: outputs at coarser levels as well, for the training.
    """

    def __init__(
        self,
        style: str,
        spatial_dims: int,
        out_channels: int,
        width: int,
        experts: int,
        norm: str,
        dfam: str,
        dfam_levels: int,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        widths = level_widths(width)[-2::-1]
        self.levels = nn.ModuleList(
            DecoderLevel(style, spatial_dims, w, convs, norm, dilation=1)
            for w, convs in zip(widths, DECODER_CONVS[style], strict=True)
        )
        levels = 0 if dfam == "none" else dfam_levels
        self.dfams = nn.ModuleList(
            DFAM(spatial_dims, w, experts, dfam) if i < levels else NoFeatures() for i, w in enumerate(widths)
        )
        self.out = output_conv(style, spatial_dims, width, out_channels)
        self.coarse_outs = coarse_outputs(style, spatial_dims, width, out_channels, deep_supervision)

    def maps(self, features: list[torch.Tensor], expert_maps: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        """The encoder's maps (finest first) and, per level (deepest first), the experts', to its own, deepest first."""
        maps: list[torch.Tensor] = []
        x = features[-1]
        for i, (level, dfam) in enumerate(zip(self.levels, self.dfams)):  # noqa: B905 - TorchScript has no strict
            # Experts may have fewer levels; what is handed to those without a DFAM is not looked at.
            x = level(x, features[len(features) - 2 - i], dfam(expert_maps[min(i, len(expert_maps) - 1)]))
            maps.append(x)
        return maps

    def forward(self, features: list[torch.Tensor], expert_maps: list[list[torch.Tensor]]) -> torch.Tensor:
        """The same input to logits."""
        return self.out(self.maps(features, expert_maps)[-1])
