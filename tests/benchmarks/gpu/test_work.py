"""Work of operations, against examples counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d

from benchmarks.gpu.work import Operation, Work

CPU = torch.device("cpu")


def work(call: object) -> list[Operation]:
    with Work(CPU) as counted:
        call()  # type: ignore[operator]
    return counted.operations


def test_a_convolution_and_an_addition_have_the_floor_that_a_hand_counts() -> None:
    image, weight = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3)
    a, b = torch.rand(2, 1000)
    with Work(CPU) as counted:
        conv2d(image, weight, padding=1)
        a + b
    flops = 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)  # a product and a sum per output, input channel and tap
    nbytes = 4 * (2 * 3 * 8 * 8 + 4 * 3 * 3 * 3 + 2 * 4 * 8 * 8)
    assert counted.operations == [Operation("convolution", flops, nbytes), Operation("add", 0, 4 * 3000)]
    # Arithmetic bounds the convolution at these ceilings, bytes the addition.
    assert counted.floor(1e4, 1e4) == pytest.approx(flops / 1e4 + 12000 / 1e4)
    assert counted.floor(1e6, 1e4) == pytest.approx(nbytes / 1e4 + 12000 / 1e4)


def test_backward_is_counted_too() -> None:
    image, weight = torch.rand(1, 2, 4, 4), torch.rand(3, 2, 1, 1, requires_grad=True)
    found = {one.name: one for one in work(lambda: conv2d(image, weight).sum().backward())}
    assert found["convolution"].flops == 2 * 16 * 3 * 2
    assert found["convolution_backward"].flops == 2 * 16 * 3 * 2  # the weight's; nobody asks for the image's


def test_views_and_memory_that_is_only_named_count_nothing() -> None:
    a = torch.rand(4, 6)
    assert work(lambda: (a.t().reshape(6, 4)[1:].unsqueeze(0), a.detach(), torch.empty(9), torch.empty_like(a))) == []


def test_what_is_only_overwritten_is_not_read() -> None:
    a, b = torch.rand(2, 100)
    assert [one.nbytes for one in work(lambda: (a.copy_(b), a.zero_(), a.add_(b)))] == [800, 400, 1200]
    # An in-place addition reads both and writes one.


def test_an_expanded_tensor_is_as_small_as_its_memory_and_one_given_twice_is_read_once() -> None:
    a, b = torch.rand(1), torch.rand(100)
    assert [one.nbytes for one in work(lambda: (a.expand(100) + b, b * b))] == [4 + 400 + 400, 400 + 400]


def test_tensors_elsewhere_are_not_counted() -> None:
    with Work(torch.device("cuda")) as counted:
        torch.rand(3) + 1
    assert counted.operations == []
