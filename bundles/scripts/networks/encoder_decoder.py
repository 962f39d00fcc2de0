"""The shared encoder, the decoders, and the plain network of one encoder and one decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from torch import nn

from ..errors import UserError
from ..settings import expect_one_of
from .blocks import STYLES, conv_stack, crop_to, downsampling, output_conv, pad_to_multiple, upsampling

LEVELS = 5
DIVISOR = 2 ** (LEVELS - 1)  # every spatial size must be a multiple of this; the networks pad to it
ENCODER_CONVS = {"vnet": (1, 2, 3, 3, 3), "unet": (2, 2, 2, 2, 2)}
DECODER_CONVS = {"vnet": (3, 3, 2, 1), "unet": (2, 2, 2, 2)}
DROPOUT = {"vnet": (0.0,) * LEVELS, "unet": (0.05, 0.1, 0.2, 0.3, 0.5)}


def level_widths(width: int) -> tuple[int, ...]:
    """Channels of the five resolutions, finest first: n, 2n, 4n, 8n, 16n."""
    return tuple(width * 2**level for level in range(LEVELS))


class Encoder(nn.Module):
    """Contracting path of the `vnet` or `unet` style.

    Args:
        style: "vnet" or "unet" (see `blocks`).
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        width: channels n of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        dropout: probability at every level; None takes the style's own (U-Net: 0.05 to 0.5, V-Net: none).

    Raises:
        UserError: an unknown style.
    """

    def __init__(
        self,
        style: str,
        spatial_dims: int,
        in_channels: int,
        width: int,
        norm: str = Norm.BATCH,
        dropout: float | None = None,
    ) -> None:
        super().__init__()
        expect_one_of("network style", style, STYLES)
        widths = level_widths(width)
        rates = DROPOUT[style] if dropout is None else (dropout,) * LEVELS
        levels = []
        channels = in_channels
        for level, (out_channels, convs) in enumerate(zip(widths, ENCODER_CONVS[style], strict=True)):
            parts: list[nn.Module] = []
            if level > 0:
                down, channels = downsampling(style, spatial_dims, channels, out_channels, norm)
                parts.append(down)
            parts.append(conv_stack(style, spatial_dims, channels, out_channels, convs, norm, dropout=rates[level]))
            levels.append(nn.Sequential(*parts))
            channels = out_channels
        self.levels = nn.ModuleList(levels)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[B, C_in, *spatial] to the five feature maps, finest first."""
        features: list[torch.Tensor] = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class DecoderLevel(nn.Module):
    """Up-sample, join the skip connection, convolve. `extra` may be added to the up-sampled stream (see `dca.DFAM`)."""

    def __init__(self, style: str, spatial_dims: int, width: int, convs: int, norm: str, dilation: int) -> None:
        super().__init__()
        self.concatenate = style == "unet"
        self.up = upsampling(style, spatial_dims, 2 * width, width, norm)
        self.convs = conv_stack(
            style, spatial_dims, 2 * width if self.concatenate else width, width, convs, norm, dilation
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor, extra: torch.Tensor | None = None) -> torch.Tensor:
        """[B, 2w, *spatial/2] and the skip [B, w, *spatial] to [B, w, *spatial]."""
        x = self.up(x)
        if extra is not None:
            x = x + extra
        x = torch.cat([skip, x], dim=1) if self.concatenate else x + skip
        return self.convs(x)


def coarse_outputs(
    style: str, spatial_dims: int, width: int, out_channels: int, wanted: bool, levels: int = LEVELS - 1
) -> nn.ModuleList:
    """Outputs of a decoder's levels between its finest and the deepest, finer ones first, if wanted (nnU-Net)."""
    widths = level_widths(width)[LEVELS - levels : LEVELS - 2] if wanted else ()
    return nn.ModuleList(output_conv(style, spatial_dims, w, out_channels) for w in widths)


def coarse_logits(outs: nn.ModuleList, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A decoder's maps, deepest first, to the logits of its `coarse_outputs`, of half, a quarter, ... of the size."""
    return [out(level) for out, level in zip(outs, reversed(maps[:-1]), strict=False)]


class Decoder(nn.Module):
    """Expanding path: four levels and an output convolution.

    Args:
        style: "vnet" or "unet".
        spatial_dims: 2 or 3.
        width: channels of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        out_channels: channels of the logits.
        convs: convolutions per level, deepest first; None takes the style's own.
        dilation: of all its 3^d convolutions.
        deep_supervision: outputs at coarser levels as well, for the training.
        levels: how many of the four levels it has, the deepest first; its output is as fine as the last of them.
    """

    def __init__(
        self,
        style: str,
        spatial_dims: int,
        out_channels: int,
        width: int,
        convs: Sequence[int] | None = None,
        dilation: int = 1,
        norm: str = Norm.BATCH,
        deep_supervision: bool = False,
        levels: int = LEVELS - 1,
    ) -> None:
        super().__init__()
        depths = DECODER_CONVS[style] if convs is None else tuple(convs)
        if len(depths) != LEVELS - 1:
            raise UserError(f"convolutions per decoder level: expected {LEVELS - 1} numbers, found {list(depths)}")
        widths = level_widths(width)[-2::-1]
        self.levels = nn.ModuleList(
            DecoderLevel(style, spatial_dims, w, depth, norm, dilation)
            for w, depth in zip(widths[:levels], depths[:levels], strict=True)
        )
        self.out = output_conv(style, spatial_dims, widths[levels - 1], out_channels)
        self.coarse_outs = coarse_outputs(style, spatial_dims, width, out_channels, deep_supervision, levels)

    def maps(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """The encoder's maps (finest first) to this decoder's four maps, deepest first."""
        maps: list[torch.Tensor] = []
        x = features[-1]
        for i, level in enumerate(self.levels):
            x = level(x, features[len(features) - 2 - i])
            maps.append(x)
        return maps

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """The same four maps, and last the logits."""
        maps = self.maps(features)
        maps.append(self.out(maps[-1]))
        return maps


class SegmentationNet(nn.Module):
    """One encoder and one decoder: the plain V-Net or U-Net that all methods are compared with.

    Args:
        style: "vnet" or "unet".
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: foreground classes K; the logits have K + 1 channels.
        width: channels of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        dropout: probability at every level; None takes the style's own (U-Net: 0.05 to 0.5, V-Net: none).
        deep_supervision: the decoder has outputs at coarser levels as well, for the training.
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
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        self.divisor, self.num_classes, self.spatial_dims = DIVISOR, num_classes, spatial_dims
        self.encoder = Encoder(style, spatial_dims, in_channels, width, norm, dropout)
        self.decoder = Decoder(
            style, spatial_dims, num_classes + 1, width, norm=norm, deep_supervision=deep_supervision
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C_in, *spatial] of any size to logits [B, K + 1, *spatial]."""
        logits = self.decoder(self.encoder(pad_to_multiple(x, self.divisor)))[-1]
        return crop_to(logits, list(x.shape))

    @torch.jit.unused
    def outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What `forward` returns, then the logits of half, a quarter, ... of the size (padded at the end)."""
        *maps, logits = self.decoder(self.encoder(pad_to_multiple(x, self.divisor)))
        return [crop_to(logits, list(x.shape)), *coarse_logits(self.decoder.coarse_outs, maps)]
