"""The plain network with an output at every level of its decoder."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Norm
from torch import nn
from torch.nn import functional

from .blocks import LINEAR_MODE, crop_to, output_conv, pad_to_multiple
from .encoder_decoder import LEVELS, SegmentationNet, level_widths

DROPOUT = (0.5, 0.3, 0.2, 0.1)  # of the maps before the outputs, deepest first (URPC)


class DeepSupervisionNet(SegmentationNet):
    """A SegmentationNet with outputs at its three coarser decoder levels as well; the finest one is the prediction.

    Args:
        style: "vnet" or "unet".
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: foreground classes K; the logits have K + 1 channels.
        width: channels of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        dropout: probability at every level; None takes the style's own (U-Net: 0.05 to 0.5, V-Net: none).
    """

    def __init__(
        self,
        style: str,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        width: int = 16,
        norm: str = Norm.BATCH,
        dropout: float | None = None,
    ) -> None:
        super().__init__(style, spatial_dims, in_channels, num_classes, width, norm, dropout)
        self.mode = LINEAR_MODE[spatial_dims]
        self.coarse_outs = nn.ModuleList(
            output_conv(style, spatial_dims, w, num_classes + 1) for w in level_widths(width)[LEVELS - 2 : 0 : -1]
        )

    def pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[B, C_in, *spatial] to four logits [B, K + 1, *spatial], deepest level first, each out of maps with dropout.

        Dropout is on in training mode only; without it, the last logits are those of `forward`.
        """
        padded = pad_to_multiple(x, self.divisor)
        maps = self.decoder.maps(self.encoder(padded))
        pyramid = []
        for level, out, rate in zip(maps, [*self.coarse_outs, self.decoder.out], DROPOUT, strict=True):
            logits = out(functional.dropout(level, rate, self.training))
            if logits.shape[2:] != padded.shape[2:]:
                logits = functional.interpolate(logits, list(padded.shape[2:]), mode=self.mode, align_corners=False)
            pyramid.append(crop_to(logits, list(x.shape)))
        return pyramid
