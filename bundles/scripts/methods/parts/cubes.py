"""A grid of equal cubes (squares, in slices) over an image: taken apart, exchanged between images, put together."""

from __future__ import annotations

import torch


def to_cubes(x: torch.Tensor, grid: int) -> torch.Tensor:
    """[B, C, *spatial] to cubes [B, grid^d, C, *side], the last axis first; spatial sizes are multiples of `grid`."""
    sides = [size // grid for size in x.shape[2:]]
    axes = range(len(sides))
    split = x.reshape(*x.shape[:2], *[n for side in sides for n in (grid, side)])
    cubes = split.permute(0, *[2 + 2 * a for a in axes], 1, *[3 + 2 * a for a in axes])
    return cubes.reshape(len(x), grid ** len(sides), x.shape[1], *sides)


def from_cubes(cubes: torch.Tensor, grid: int) -> torch.Tensor:
    """Cubes [B, grid^d, C, *side] to [B, C, *spatial]: undoes `to_cubes`."""
    batch, _, channels, *sides = cubes.shape
    axes, dims = range(len(sides)), len(sides)
    split = cubes.reshape(batch, *[grid] * dims, channels, *sides)
    return split.permute(0, 1 + dims, *[n for a in axes for n in (1 + a, 2 + dims + a)]).reshape(
        batch, channels, *[grid * side for side in sides]
    )


def random_orders(batch: int, positions: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Orders [B, positions] of the images, one per position, drawn evenly; `orders.argsort(0)` undoes them."""
    return torch.rand(batch, positions, device=device).argsort(0)


def exchange(x: torch.Tensor, orders: torch.Tensor, grid: int) -> torch.Tensor:
    """[B, C, *spatial] whose image b has, at each position p, the cube of the image orders[b, p] from there."""
    positions = torch.arange(orders.shape[1], device=x.device)
    return from_cubes(to_cubes(x, grid)[orders, positions], grid)
