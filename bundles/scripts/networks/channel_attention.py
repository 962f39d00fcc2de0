"""Attention between the channels of the deepest feature map, within an image or from one image to another."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Norm
from torch import nn
from torch.nn import functional

from .blocks import crop_to, pad_to_multiple
from .encoder_decoder import SegmentationNet, level_widths

WINDOW = 2  # voxels per axis


def to_windows(x: torch.Tensor, window: list[int]) -> torch.Tensor:
    """[B, C, *spatial], of sizes that are multiples of the window's, to [B, windows, voxels of a window, C]."""
    dims = len(window)
    split = [x.shape[0], x.shape[1]]
    for axis in range(dims):
        split += [x.shape[2 + axis] // window[axis], window[axis]]
    order = [0] + [2 + 2 * axis for axis in range(dims)] + [3 + 2 * axis for axis in range(dims)] + [1]
    return x.reshape(split).permute(order).flatten(1, dims).flatten(2, dims + 1)


def from_windows(windows: torch.Tensor, window: list[int], shape: list[int]) -> torch.Tensor:
    """Undo `to_windows` of a map of this shape, a [B, C, *spatial]."""
    dims = len(window)
    grid = [shape[2 + axis] // window[axis] for axis in range(dims)]
    order = [0, 1 + 2 * dims]
    for axis in range(dims):
        order += [1 + axis, 1 + dims + axis]
    return windows.reshape(shape[:1] + grid + window + shape[1:2]).permute(order).reshape(shape)


class ChannelAttention(nn.Module):
    """Every channel of an image looks for channels alike of others, or of its own, and adds what they show (SKCDF).

    x + P softmax(N(Q K^T)) V in every head, where Q is made of x, K and V of the context, each normalised over its
    channels. The rows of Q are a head's channels of the image, those of K and V the channels of all images of the
    context; the columns are the voxels of a window. N, instance normalisation, brings the scores of a head and a window
    to mean 0 and variance 1.

    Args:
        channels: of the feature maps, a multiple of `heads`.
        heads: groups of channels that attend only to each other.
        local: attend in windows of two voxels per axis, each on its own; False takes the whole map for one window.
    """

    def __init__(self, channels: int, heads: int = 2, local: bool = False) -> None:
        super().__init__()
        self.heads, self.multiple = heads, WINDOW if local else 1
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Feature maps [B, C, *spatial], complemented by context [B_c, C, *spatial], or each by itself without one."""
        padded = pad_to_multiple(x, self.multiple)
        shape = list(padded.shape)
        window = [self.multiple] * (len(shape) - 2) if self.multiple > 1 else shape[2:]
        own = self.norm(to_windows(padded, window))
        other = own
        if context is not None:
            other = self.norm(to_windows(pad_to_multiple(context, self.multiple), window))
        key, value = self.key_value(other).chunk(2, -1)
        query, key, value = self._channels(self.query(own)), self._channels(key), self._channels(value)
        if context is not None:  # the channels of all its images, side by side, for every image of x
            key, value = key.movedim(0, 2).flatten(2, 3), value.movedim(0, 2).flatten(2, 3)
        scores = query @ key.transpose(-1, -2)
        scores = functional.layer_norm(scores, scores.shape[-2:])
        found = scores.softmax(-1) @ value
        tokens = found.flatten(2, 3).transpose(-1, -2)
        return x + crop_to(from_windows(self.project(tokens), window, shape), list(x.shape))

    def _channels(self, windows: torch.Tensor) -> torch.Tensor:
        """[B, windows, voxels, C] to [B, windows, heads, C / heads, voxels]."""
        return windows.transpose(-1, -2).unflatten(2, [self.heads, -1])


class AttentionNet(SegmentationNet):
    """The plain network with channel attention at its deepest map, in windows first and then over the whole map.

    By itself every image attends to itself. A method that lets images attend to others goes through the two stages of
    `attention` on its own (SKCDF).

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
        deepest = level_widths(width)[-1]
        self.attention = nn.ModuleList(ChannelAttention(deepest, local=local) for local in (True, False))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """The deepest map [B, 16 n, *spatial] after every image has attended to itself."""
        for stage in self.attention:
            x = stage(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C_in, *spatial] of any size to logits [B, K + 1, *spatial]."""
        features = self.encoder(pad_to_multiple(x, self.divisor))
        features[-1] = self.attend(features[-1])
        return crop_to(self.decoder(features)[-1], list(x.shape))
