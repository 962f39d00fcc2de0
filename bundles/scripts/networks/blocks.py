"""Building blocks of the encoder/decoder family, in 2D and 3D.

Two styles of the field share one shape (five resolutions, four down- and four up-samplings) and differ in their parts:

=========  ================================  =====================================
part       ``vnet`` (3D)                     ``unet`` (2D)
=========  ================================  =====================================
convs      3^d, norm, ReLU                   3^d, norm, LeakyReLU(0.01)
down       2^d convolution, stride 2         max-pooling
up         2^d transposed convolution        1^d convolution, linear interpolation
skip       added                             concatenated
output     1^d convolution                   3^d convolution
=========  ================================  =====================================

``vnet`` is the V-Net that the semi-supervised abdominal CT literature compares on (additive skips, no residual inside a
block), ``unet`` the U-Net of its cardiac MR counterpart; neither is MONAI's network of the same name.
"""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Act, Conv, Dropout, Norm, Pool
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import nn
from torch.nn import functional

from .convolutions import DILATED, DOUBLING, POINTWISE

STYLES = ("vnet", "unet")
# In place: what they overwrite is a normalisation's output, which nothing else needs.
ACTIVATION = {"vnet": (Act.RELU, {"inplace": True}), "unet": (Act.LEAKYRELU, {"negative_slope": 0.01, "inplace": True})}
LINEAR_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def conv_norm_act(
    style: str, spatial_dims: int, in_channels: int, out_channels: int, norm: str, dilation: int = 1
) -> nn.Sequential:
    """A 3^d convolution that keeps the size, its normalisation and its activation."""
    conv = Conv[Conv.CONV, spatial_dims] if dilation == 1 else DILATED[spatial_dims]
    return nn.Sequential(
        conv(in_channels, out_channels, 3, padding=dilation, dilation=dilation),
        get_norm_layer((norm, {}), spatial_dims, out_channels),
        get_act_layer(ACTIVATION[style]),
    )


def conv_stack(
    style: str,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    convs: int,
    norm: str = Norm.BATCH,
    dilation: int = 1,
    dropout: float | None = None,
) -> nn.Sequential:
    """`convs` convolutions in a row; dropout, unless None, follows the first.

    Dropout of probability 0 has its place too, so that the names of the parameters do not depend on the probability.
    """
    stack = nn.Sequential()
    for i in range(convs):
        stack.append(
            conv_norm_act(style, spatial_dims, in_channels if i == 0 else out_channels, out_channels, norm, dilation)
        )
        if i == 0 and dropout is not None:
            stack.append(Dropout[Dropout.DROPOUT, 1](dropout))
    return stack


def downsampling(
    style: str, spatial_dims: int, in_channels: int, out_channels: int, norm: str
) -> tuple[nn.Module, int]:
    """Halve every spatial size; returns the module and the channels it puts out."""
    if style == "unet":
        return Pool[Pool.MAX, spatial_dims](2), in_channels
    down = nn.Sequential(
        Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 2, stride=2),
        get_norm_layer((norm, {}), spatial_dims, out_channels),
        get_act_layer(ACTIVATION[style]),
    )
    return down, out_channels


class LinearUpsampling(nn.Module):
    """1^d convolution to the new width, then linear interpolation by two with aligned corners."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = POINTWISE[spatial_dims](in_channels, out_channels, 1)
        self.mode = LINEAR_MODE[spatial_dims]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in_channels, *spatial] to [B, out_channels, *(2 * spatial)]."""
        return functional.interpolate(self.conv(x), scale_factor=2.0, mode=self.mode, align_corners=True)


def upsampling(style: str, spatial_dims: int, in_channels: int, out_channels: int, norm: str) -> nn.Module:
    """Double every spatial size and change the width to `out_channels`."""
    if style == "unet":
        return LinearUpsampling(spatial_dims, in_channels, out_channels)
    return nn.Sequential(
        DOUBLING[spatial_dims](in_channels, out_channels, 2, stride=2),
        get_norm_layer((norm, {}), spatial_dims, out_channels),
        get_act_layer(ACTIVATION[style]),
    )


def output_conv(style: str, spatial_dims: int, in_channels: int, out_channels: int) -> nn.modules.conv._ConvNd:
    """The convolution from the last feature map to the logits."""
    if style == "unet":
        return Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 3, padding=1)
    return POINTWISE[spatial_dims](in_channels, out_channels, 1)


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last voxels of [B, C, *spatial] until every spatial size is a multiple of `multiple`."""
    pad: list[int] = []
    for axis in range(x.dim() - 1, 1, -1):
        pad += [0, -x.shape[axis] % multiple]
    # An exported graph would keep only the branch that its example took, so it pads (and crops) at every size.
    return functional.pad(x, pad, mode="replicate") if torch.compiler.is_compiling() or max(pad) > 0 else x


def crop_to(x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Undo `pad_to_multiple`: the first voxels of [..., *spatial], as many as in `shape`, a [B, C, *spatial]."""
    before = x.dim() - len(shape)
    for axis in range(2, len(shape)):
        if torch.compiler.is_compiling() or x.shape[axis + before] != shape[axis]:
            x = x.narrow(axis + before, 0, shape[axis])
    return x
