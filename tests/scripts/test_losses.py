import itertools

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.losses import ABSENT_RULES, cross_entropy, segmentation_loss, soft_dice, voxel_cross_entropy
from tests import numpy_losses

CLASSES = 4


def example(spatial=(6, 5), seed=0):
    """Logits [2, 4, *spatial] and labels in which class 2 is absent."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, CLASSES, *spatial)) * 2
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(rng.choice([0, 1, 3], size=(2, *spatial)))


def only(*classes, channels=CLASSES):
    """A mask that is true for these classes."""
    return torch.isin(torch.arange(channels), torch.tensor(classes))


OPTIONS = list(itertools.product([None, [0, 2], [1, 3], [3, 0, 2]], ABSENT_RULES, [False, True], [False, True]))


@pytest.mark.parametrize("spatial", [(6, 5), (4, 3, 2)])
@pytest.mark.parametrize(("classes", "absent", "weighted", "masked"), OPTIONS)
def test_losses_equal_their_formulas(spatial, classes, absent, weighted, masked):
    logits, target = example(spatial)
    p, y = numpy_losses.softmax(logits.double().numpy()), target.numpy()
    weight = np.array([0.1, 1.0, 3.0, 2.0]) if weighted else np.ones(CLASSES)
    mask = (np.arange(y.size).reshape(y.shape) % 3 > 0) if masked else np.ones(y.shape, bool)
    hooks = {
        "weight": torch.tensor(weight, dtype=torch.float32) if weighted else None,
        "mask": torch.tensor(mask) if masked else None,
    }
    dice = numpy_losses.dice(p, y, classes, absent, weight, mask)
    counted = None if classes is None else only(*classes)
    entropy = numpy_losses.cross_entropy(p, y, weight, mask)
    assert soft_dice(logits.softmax(1), target, counted, absent, **hooks).item() == pytest.approx(dice, abs=1e-5)
    assert cross_entropy(logits, target, **hooks).item() == pytest.approx(entropy, abs=1e-5)
    total = segmentation_loss(logits, target, counted, absent, **hooks)
    assert total.item() == pytest.approx((dice + entropy) / 2, abs=1e-5)


@pytest.mark.parametrize("absent", ABSENT_RULES)
def test_perfect_prediction_loses_nothing(absent):
    _, target = example()
    perfect = torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).float()
    assert soft_dice(perfect, target, absent=absent).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(perfect * 100, target, absent=absent).item() == pytest.approx(0, abs=1e-6)


def test_skipped_absent_class_costs_nothing():
    logits, target = example()
    probabilities = logits.softmax(1)
    assert soft_dice(probabilities, target) == soft_dice(probabilities, target, classes=only(0, 1, 3))
    assert soft_dice(probabilities, target, classes=only(2)) == 0


def test_smoothed_absent_class_costs_nearly_one():
    logits, target = example()
    probabilities = logits.softmax(1)
    assert soft_dice(probabilities, target, classes=only(2), absent="smooth").item() == pytest.approx(1, abs=1e-3)


def test_absent_class_is_pushed_away_in_proportion_to_its_probability():
    logits, target = example()
    probabilities = logits.softmax(1).requires_grad_()
    soft_dice(probabilities, target, classes=only(2), absent="probability").backward()
    expected = torch.zeros_like(probabilities)
    expected[:, 2] = probabilities[:, 2].detach() / target.numel()
    torch.testing.assert_close(probabilities.grad, expected)


def test_one_voxel_that_is_left_is_the_whole_mean():
    probabilities, target = torch.full((1, 2, 4, 4), 0.5), torch.zeros(1, 4, 4, dtype=torch.long)
    mask = torch.zeros(1, 4, 4)
    mask[0, 2, 1] = 1
    loss = soft_dice(probabilities, target, only(1, channels=2), absent="probability", mask=mask)
    assert loss.item() == pytest.approx(0.25)


def test_background_counts_even_where_it_is_absent():
    probabilities, target = torch.full((1, 2, 4, 4), 0.5), torch.ones(1, 4, 4, dtype=torch.long)
    assert soft_dice(probabilities, target, classes=only(0, channels=2)).item() == pytest.approx(1, abs=1e-3)


def test_dice_is_over_the_batch_and_not_the_mean_over_samples():
    probabilities = example()[0].softmax(1)
    target = torch.stack([torch.ones(6, 5, dtype=torch.long), torch.zeros(6, 5, dtype=torch.long)])
    target[1, 0, 0] = 3
    joined = soft_dice(torch.cat(list(probabilities), dim=1)[None], torch.cat(list(target))[None])
    single = torch.stack([soft_dice(p[None], t[None]) for p, t in zip(probabilities, target, strict=True)])
    torch.testing.assert_close(soft_dice(probabilities, target), joined)
    assert abs(soft_dice(probabilities, target) - single.mean()) > 0.01


@pytest.mark.parametrize("absent", ABSENT_RULES)
def test_masked_voxels_have_no_say(absent):
    logits, target = example()
    mask = torch.ones(2, 6, 5)
    mask[:, :3] = 0
    other, wrong = logits.clone().requires_grad_(), target.clone()
    with torch.no_grad():
        other[:, :, :3] *= -5
    wrong[:, :3] = 2
    loss = segmentation_loss(other, wrong, absent=absent, mask=mask)
    assert loss == segmentation_loss(logits, target, absent=absent, mask=mask)
    loss.backward()
    assert (other.grad[:, :, :3] == 0).all()
    assert (other.grad[:, :, 3:] != 0).all()


@pytest.mark.parametrize("absent", ABSENT_RULES)
@pytest.mark.parametrize("voxels", [0, 1])
def test_gradient_is_finite_for_absent_and_one_voxel_classes(absent, voxels):
    logits = (torch.randn(2, CLASSES, 8, 8, generator=torch.Generator().manual_seed(0)) * 20).requires_grad_()
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target.view(-1)[:voxels] = 2
    soft_dice(logits.softmax(1), target, classes=only(2), absent=absent).backward(retain_graph=True)
    assert bool(logits.grad.any()) == (voxels > 0 or absent != "skip")
    segmentation_loss(logits, target, absent=absent).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("mask", [None, torch.zeros(2, 6, 5)])
def test_gradient_is_finite_where_nothing_is_left(mask):
    logits, target = example()
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.zeros_like(target), classes=only(2), mask=mask)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_bfloat16_input_is_summed_in_float32():
    logits, target = example((64, 64))
    half = logits.bfloat16().requires_grad_()
    loss = segmentation_loss(half, target)
    assert loss.dtype == torch.float32
    assert loss == segmentation_loss(half.detach().float(), target)
    loss.backward()
    assert half.grad.dtype == torch.bfloat16
    assert half.grad.isfinite().all()
    uniform = torch.full((1, 2, 128, 128), 0.5, dtype=torch.bfloat16)  # a sum in bfloat16 stops growing at 256
    expected = 1 - (128 * 128) / (128 * 128 * (0.25 + 1))
    assert soft_dice(uniform, torch.ones(1, 128, 128), classes=only(1, channels=2)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_unknown_absent_rule_is_an_error():
    logits, target = example()
    with pytest.raises(UserError, match="absent: expected a known value, found 'sikp'; did you mean 'skip'"):
        segmentation_loss(logits, target, absent="sikp")


@pytest.mark.parametrize("weight", [None, [0.1, 1.0, 3.0, 2.0]])
def test_cross_entropy_is_the_weighted_mean_of_the_voxels_as_torchs_is(weight):
    logits, target = example()
    weight = None if weight is None else torch.tensor(weight)
    loss = cross_entropy(logits, target, weight)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, target, weight))
    voxels = voxel_cross_entropy(logits, target, weight)
    assert voxels.shape == target.shape
    weights = torch.ones(len(logits[0])) if weight is None else weight
    torch.testing.assert_close(voxels.sum() / weights[target].sum(), loss)


def test_cross_entropy_of_voxels_without_weight_is_zero():
    logits, _ = example()
    nothing = torch.zeros(len(logits), *logits.shape[2:], dtype=torch.long)
    weight = torch.ones(logits.shape[1])
    weight[0] = 0.0
    assert cross_entropy(logits, nothing, weight) == 0
    assert cross_entropy(logits, nothing, mask=nothing) == 0


@pytest.mark.parametrize("absent", ABSENT_RULES)
def test_on_another_device_nothing_is_made_of_the_cpus_numbers(absent):
    logits, target = (tensor.to("meta") for tensor in example())
    weight, mask = torch.ones(CLASSES, device="meta"), torch.ones(target.shape, device="meta")
    assert segmentation_loss(logits, target, None, absent, weight, mask).device.type == "meta"
