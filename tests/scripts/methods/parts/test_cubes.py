"""Images taken apart into cubes, and put together again."""

import itertools

import pytest
import torch

from scripts.methods.parts.cubes import exchange, from_cubes, random_orders, to_cubes


@pytest.mark.parametrize(("grid", "spatial"), [(3, (6, 9)), (2, (4, 6, 8)), (4, (4, 8))])
def test_cubes_are_numbered_last_axis_first_and_can_be_put_together(grid, spatial):
    x = torch.rand(2, 3, *spatial)
    cubes = to_cubes(x, grid)
    sides = [size // grid for size in spatial]
    assert cubes.shape == (2, grid ** len(spatial), 3, *sides)
    for number, position in enumerate(itertools.product(range(grid), repeat=len(spatial))):
        box = [slice(p * side, (p + 1) * side) for p, side in zip(position, sides, strict=True)]
        assert torch.equal(cubes[:, number], x[(..., *box)])
    assert torch.equal(from_cubes(cubes, grid), x)


def test_exchanged_cubes_keep_their_position():
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    orders = torch.tensor([[0, 1, 2, 0], [1, 2, 0, 2], [2, 0, 1, 1]])
    mixed = exchange(x, orders, 2)
    assert torch.equal(mixed[0, 0], torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]))
    assert torch.equal(mixed[2, 0], torch.tensor([[2.0, 2, 0, 0], [2, 2, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]))


def test_random_orders_use_every_image_once_per_position_and_can_be_undone():
    torch.manual_seed(3)
    orders = random_orders(4, 8)
    assert torch.equal(orders.sort(0).values, torch.arange(4).unsqueeze(1).expand(4, 8))
    assert len(orders.unique(dim=1).T) > 1
    x = torch.rand(4, 2, 6, 4, 2)
    mixed = exchange(x, orders, 2)
    assert not torch.equal(mixed, x)
    assert torch.equal(exchange(mixed, orders.argsort(0), 2), x)


def test_random_orders_come_from_torchs_random_state():
    torch.manual_seed(3)
    first, second = random_orders(6, 8), random_orders(6, 8)
    torch.manual_seed(3)
    assert torch.equal(first, random_orders(6, 8))
    assert not torch.equal(first, second)
