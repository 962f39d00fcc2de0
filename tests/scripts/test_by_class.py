"""What is counted by class: the GPU's way gives what the CPU's way gives."""

import pytest
import torch

from scripts import by_class
from scripts.by_class import one_hot, sums_by_class, voxels_by_class

CLASSES = 5


def example():
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, CLASSES - 1, (2, 6, 7), generator=draw)  # the last class has no voxel
    return torch.rand(ids.shape, generator=draw), ids


@pytest.mark.parametrize("voxel_by_voxel", [True, False])
def test_sums_and_their_gradients_are_those_of_a_loop_on_every_device(monkeypatch, voxel_by_voxel):
    monkeypatch.setattr(by_class, "_voxel_by_voxel", lambda ids: voxel_by_voxel)
    values, ids = example()
    values.requires_grad_()
    sums = sums_by_class(values, ids, CLASSES)
    torch.testing.assert_close(sums, torch.stack([values[ids == c].sum() for c in range(CLASSES)]))
    factors = torch.arange(1.0, CLASSES + 1)
    (sums * factors).sum().backward()
    assert torch.equal(values.grad, factors[ids])


@pytest.mark.parametrize("voxel_by_voxel", [True, False])
def test_voxels_are_counted_on_every_device(monkeypatch, voxel_by_voxel):
    monkeypatch.setattr(by_class, "_voxel_by_voxel", lambda ids: voxel_by_voxel)
    _, ids = example()
    counts = voxels_by_class(ids, CLASSES)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [int((ids == c).sum()) for c in range(CLASSES)]


def test_one_hot_is_torchs_with_the_channels_second():
    _, ids = example()
    expected = torch.nn.functional.one_hot(ids, CLASSES).movedim(-1, 1).float()
    assert torch.equal(one_hot(ids, CLASSES), expected)


def test_on_a_cpu_no_tensor_of_classes_times_voxels_is_made(monkeypatch):
    monkeypatch.setattr(by_class, "_is_class", lambda *_: pytest.fail("compares every voxel with every class"))
    values, ids = example()
    assert len(sums_by_class(values, ids, CLASSES)) == len(voxels_by_class(ids, CLASSES)) == CLASSES


def test_on_another_device_nothing_is_made_of_the_cpus_numbers():
    """The device `meta` stands for it: it computes nothing, but minds where numbers are, and has no bincount."""
    values, ids = (tensor.to("meta") for tensor in example())
    found = sums_by_class(values, ids, CLASSES), voxels_by_class(ids, CLASSES), one_hot(ids, CLASSES)
    assert {tensor.device.type for tensor in found} == {"meta"}
    assert [tuple(tensor.shape) for tensor in found] == [(CLASSES,), (CLASSES,), (2, CLASSES, 6, 7)]
