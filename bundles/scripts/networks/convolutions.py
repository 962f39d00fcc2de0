"""Convolutions that torch computes slowly on a CPU, by others that it computes fast: the same numbers.

Elsewhere they are torch's own modules, whose parameters they have. All but 1^d kernels go other ways only in training.
"""

from __future__ import annotations

import torch
from torch import nn
from torch._jit_internal import is_scripting
from torch.nn import functional

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of a convolution's weights


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dilation: int = 1) -> torch.Tensor:
    """[B, C, *spatial] by [C_out, C, *kernel], an odd number of voxels along each axis, to [B, C_out, *spatial]."""
    padding = dilation * (weight.shape[-1] // 2)
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if not tracing and weight.shape[-1] == 1 and x.device.type == "cpu":
        # In float32 on one thread torch 2.13 takes code for these that is five times slower than oneDNN's, unless they
        # are dilated, which means nothing to a kernel of one voxel.
        dilation = 2
    if x.dim() == 5:
        return functional.conv3d(x, weight, bias, padding=padding, dilation=dilation)
    return functional.conv2d(x, weight, bias, padding=padding, dilation=dilation)


def memory_format(network: nn.Module) -> torch.memory_format:
    """How the weights of a network's convolutions lie in memory: channels last, or as torch makes them."""
    weights = [weight for weight in network.parameters() if weight.dim() in CHANNELS_LAST]
    last = all(weight.is_contiguous(memory_format=CHANNELS_LAST[weight.dim()]) for weight in weights)
    return CHANNELS_LAST[weights[0].dim()] if last else torch.contiguous_format


def convolve_projected(
    maps: list[torch.Tensor],
    projections: list[torch.Tensor],
    projection_biases: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """A convolution of the concatenated 1^d projections of several maps, by one convolution of the maps themselves.

    Both are linear. Beyond the border the projected maps are zero, and their biases with them: what the biases add is a
    map, and not a number.

    Args:
        maps: E maps [B, C, *spatial].
        projections, projection_biases: of the E projections, [M, C, 1, ...] and [M].
        weight, bias: of the convolution after them, [C_out, E M, *kernel] and [C_out].

    Returns:
        [B, C_out, *spatial].
    """
    parts = weight.unflatten(1, [len(maps), projections[0].shape[0]])
    joint = torch.einsum("oem...,emi->oei...", parts, torch.stack(projections).flatten(2)).flatten(1, 2)
    shift = torch.einsum("oem...,em->o...", parts, torch.stack(projection_biases))
    inside = torch.ones_like(maps[0][:1, :1])
    return convolve(torch.cat(maps, dim=1), joint, bias) + convolve(inside, shift.unsqueeze(1), None)


class _Pointwise(nn.modules.conv._ConvNd):
    """A 1^d convolution, in inference, too (see `convolve`)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, *spatial] to [B, C_out, *spatial]."""
        return convolve(x, self.weight, self.bias)


class _Dilated(nn.modules.conv._ConvNd):
    """A 3^d convolution with dilation r that keeps the size.

    The voxels that it joins lie on one of r^d lattices, and on each lattice it is a convolution without dilation.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, *spatial] to [B, C_out, *spatial]."""
        if not is_scripting():  # noqa: SIM102 - TorchScript skips only what is under this condition
            if self.training and x.device.type == "cpu" and all(size % self.dilation[0] == 0 for size in x.shape[2:]):
                return self._by_lattices(x)
        return convolve(x, self.weight, self.bias, self.dilation[0])

    @torch.jit.unused
    def _by_lattices(self, x: torch.Tensor) -> torch.Tensor:
        blocks = _blocks(x, self.dilation[0])
        d = x.dim() - 2
        swap = [0, *range(1 + d, 1 + 2 * d), *range(1, 1 + d), 1 + 2 * d]  # place in its block, block
        lattices = blocks.permute(swap)
        found = convolve(lattices.flatten(0, d).movedim(-1, 1), self.weight, self.bias).movedim(1, -1)
        return _whole(found.reshape(*lattices.shape[:-1], -1).permute(swap))


class _Doubling(nn.modules.conv._ConvTransposeNd):
    """A 2^d transposed convolution of stride 2: each voxel becomes a block, by one product of matrices."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """[B, C, *spatial] to [B, C_out, *(2 * spatial)]; `output_size` is torch's, and means nothing here."""
        if not is_scripting():  # noqa: SIM102 - as above
            if self.training and x.device.type == "cpu":
                return self._by_blocks(x)
        if x.dim() == 5:
            return functional.conv_transpose3d(x, self.weight, self.bias, stride=2)
        return functional.conv_transpose2d(x, self.weight, self.bias, stride=2)

    @torch.jit.unused
    def _by_blocks(self, x: torch.Tensor) -> torch.Tensor:
        d = x.dim() - 2
        channels = self.weight.shape[1]
        weight = self.weight.movedim((1, 0), (-2, -1)).flatten(0, -2)  # [2^d C_out, C]
        bias = None if self.bias is None else self.bias.repeat(2**d)
        blocks = functional.linear(x.movedim(1, -1), weight, bias)
        return _whole(blocks.view(*blocks.shape[:-1], *[2] * d, channels))


class Pointwise2d(_Pointwise, nn.Conv2d):
    """See `_Pointwise`."""


class Pointwise3d(_Pointwise, nn.Conv3d):
    """See `_Pointwise`."""


class Dilated2d(_Dilated, nn.Conv2d):
    """See `_Dilated`."""


class Dilated3d(_Dilated, nn.Conv3d):
    """See `_Dilated`."""


class Doubling2d(_Doubling, nn.ConvTranspose2d):
    """See `_Doubling`."""


class Doubling3d(_Doubling, nn.ConvTranspose3d):
    """See `_Doubling`."""


POINTWISE = {2: Pointwise2d, 3: Pointwise3d}
DILATED = {2: Dilated2d, 3: Dilated3d}
DOUBLING = {2: Doubling2d, 3: Doubling3d}


def _blocks(x: torch.Tensor, side: int) -> torch.Tensor:
    """[B, C, *spatial] to [B, *(spatial / side), *(side per axis), C]; no copy of what is channels last."""
    d = x.dim() - 2
    split = [n for size in x.shape[2:] for n in (size // side, side)]
    apart = x.movedim(1, -1).reshape(x.shape[0], *split, x.shape[1])
    return apart.permute(0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1)


def _whole(blocks: torch.Tensor) -> torch.Tensor:
    """Undo `_blocks`; the result is channels last in memory."""
    d = (blocks.dim() - 2) // 2
    order = [axis for i in range(1, d + 1) for axis in (i, d + i)]
    sizes = [blocks.shape[i] * blocks.shape[d + i] for i in range(1, d + 1)]
    return blocks.permute(0, *order, 2 * d + 1).reshape(blocks.shape[0], *sizes, -1).movedim(-1, 1)
