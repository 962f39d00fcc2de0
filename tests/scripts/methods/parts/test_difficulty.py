"""Trackers of how hard the classes are: their numbers by hand and against numpy."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from scripts.methods.parts.difficulty import ClassAverage, ConfidenceBank, DifficultyTracker, PerformanceBank, hard_dice
from tests import numpy_losses


def certain(label, num_classes, scale=100.0):
    """Logits [B, K + 1, *spatial] of these class ids, which leave no doubt."""
    return torch.nn.functional.one_hot(label, num_classes + 1).movedim(-1, 1).float() * scale


def noise(seed=0, num_classes=3, shape=(2, 6, 5)):
    """Logits, and a label without class 2."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(shape[0], num_classes + 1, *shape[1:])) * 2, dtype=torch.float32)
    return logits, torch.tensor(rng.choice([c for c in range(num_classes + 1) if c != 2], size=shape))


def test_first_batches_of_a_class_count_alike_and_absent_classes_are_left_alone():
    average = ClassAverage(2, [5.0], decay=0.75)
    for value, present in ((1.0, [1, 1, 0]), (2.0, [1, 0, 0]), (6.0, [1, 1, 0])):
        average.update(torch.full((1, 3), value), torch.tensor(present, dtype=torch.bool))
    assert average.mean[0].tolist() == pytest.approx([3.0, 3.5, 5.0])
    average.update(torch.full((1, 3), 7.0), torch.tensor([True, False, False]))
    average.update(torch.full((1, 3), 0.0), torch.tensor([True, False, False]))
    assert average.mean[0, 0].item() == pytest.approx(0.75 * (0.75 * 3 + 0.25 * 7))


def test_hard_dice_is_that_of_the_whole_batch():
    label = torch.tensor([[[0, 0, 1, 1]], [[0, 3, 3, 3]]])
    predicted = torch.tensor([[[0, 1, 1, 1]], [[0, 3, 3, 2]]])
    dice, present = hard_dice(predicted, label, 3)
    assert dice.tolist() == pytest.approx([4 / 5, 4 / 5, 0, 4 / 5])
    assert present.tolist() == [True, True, False, True]


@pytest.mark.parametrize("normalise", [True, False])
def test_difficulty_weights_equal_their_formula(normalise):
    """Dice over three batches, by hand: class 1 rises, class 2 falls, class 0 does both, class 3 is never there."""
    label = torch.tensor([0] * 10 + [1] * 10 + [2] * 10).view(1, 30)
    wrong = [(2, 8, 0), (0, 5, 0), (4, 0, 5)]  # voxels per class that are taken for class 3
    tracker = DifficultyTracker(3, window=4, normalise=normalise)
    assert tracker.weights().tolist() == [4.0] * 4
    dice = []
    for missed in wrong:
        predicted = label.clone()
        for c, count in enumerate(missed):
            predicted[0, 10 * c : 10 * c + count] = 3
        tracker.update(certain(predicted, 3), label)
        dice.append([2 * (10 - m) / (20 - m) for m in missed])
    learn, unlearn, missing = np.zeros(4), np.zeros(4), np.ones(4)
    for c in range(3):
        d = [batch[c] for batch in dice]
        change = [((b - a) * np.log(b / a), b > a) for a, b in pairwise(d)]
        # a = min(1 - 1/n, 3/4): the three batches count alike, and the first has no change
        learn[c] = sum(x for x, rose in change if rose) / 3
        unlearn[c] = sum(x for x, rose in change if not rose) / 3
        missing[c] = 1 - np.mean(d)
    expected = 4 * missing * ((unlearn + 1e-6) / (learn + 1e-6)) ** 0.2
    if normalise:
        expected *= 4 / expected.max()
    assert tracker.weights().tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert expected[2] > 3 * expected[1]


def test_difficulty_remembers_the_dice_of_the_last_batch_that_held_the_class():
    tracker = DifficultyTracker(2)
    label = torch.tensor([[0, 0, 1, 1]])
    tracker.update(certain(torch.tensor([[0, 0, 1, 0]]), 2), label)
    tracker.update(certain(torch.tensor([[0, 0, 0, 0]]), 2), torch.zeros_like(label))
    assert tracker.last_dice.tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    tracker.update(certain(label, 2), label)
    assert tracker.average.batches.tolist() == [3, 2, 0]
    learnt = (1 - 2 / 3) * np.log(1 / (2 / 3))
    assert tracker.average.mean[1:, 1].tolist() == pytest.approx([learnt / 2, 0.0])


def test_a_class_that_is_always_missed_stays_the_hardest():
    tracker = DifficultyTracker(2)
    for seen in ([0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]):
        tracker.update(certain(torch.tensor([seen]), 2), torch.tensor([[0, 2, 1, 1]]))
    weights = tracker.weights()
    assert weights.isfinite().all()
    assert weights.argmax() == 2
    assert weights.max() == 3


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 4, 3, 2)])
def test_confidence_bank_equals_its_formula(shape):
    bank = ConfidenceBank(3, decay=0.5)
    assert bank.rates().tolist() == [1.0] * 4
    means = []
    for seed in range(3):
        logits, label = noise(seed, shape=shape)
        bank.update(logits, label)
        p, y = numpy_losses.softmax(logits.double().numpy()), label.numpy()
        true = np.take_along_axis(p, y[:, None], 1)[:, 0]
        means.append([true[y == c].mean() if (y == c).any() else 0.0 for c in range(4)])
    expected = 0.25 * np.array(means[0]) + 0.25 * np.array(means[1]) + 0.5 * np.array(means[2])
    assert bank.average.mean[0].tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert bank.rates(0.5).tolist() == pytest.approx(np.sqrt(1 - expected).tolist(), rel=1e-4)  # class 2: 1 - 0 is max
    assert bank.rates(0.0).tolist() == [1.0] * 4


@pytest.mark.parametrize("ranked", [2, 12])
def test_performance_bank_equals_its_formula(ranked):
    logits, label = noise()
    label.view(-1)[0] = 2
    bank = PerformanceBank(3, ranked)
    assert bank.rates().tolist() == [1.0] * 4
    bank.update(logits, label)
    p, y = numpy_losses.softmax(logits.double().numpy()), label.numpy()
    true = np.take_along_axis(p, y[:, None], 1)[:, 0]
    scores = [-(p * np.log(p)).sum(1) / np.log(4), 1 - true, p.max(1) - true]
    means = np.array([[s[y == c].mean() for c in range(4)] for s in scores])
    x = np.exp(means) / np.exp(means).sum(1, keepdims=True)
    for row in x:
        row[np.argsort(row)[: max(0, 4 - ranked)]] = 0
    rating = (1 - x.mean(0)) * (1 - np.exp(-np.exp(-2 * x))).sum(0)
    rating /= rating.max()
    assert bank.rating().tolist() == pytest.approx(rating.tolist(), rel=1e-4)
    rates = ((1 - rating) / (1 - rating).max()) ** 2.5
    assert bank.rates().tolist() == pytest.approx(rates.tolist(), rel=1e-2, abs=1e-4)


def test_performance_is_best_where_the_network_is_sure_and_right():
    label = torch.tensor([[0] * 8 + [1] * 8 + [2] * 8])
    logits = certain(label, 2, scale=8.0)
    logits[:, :, 8:16] *= 0.25  # class 1: right, but unsure
    logits[:, :, 16:] = logits[:, [2, 1, 0], 16:]  # class 2: sure, and wrong
    bank = PerformanceBank(2)
    bank.update(logits, label)
    rating, rates = bank.rating(), bank.rates()
    assert rating[0] == rating.max() == 1
    assert rating.argmin() == 2
    assert rates[0] == 0
    assert rates[2] == 1


@pytest.mark.parametrize("tracker", [DifficultyTracker(3), ConfidenceBank(3), PerformanceBank(3)])
def test_a_class_without_voxels_keeps_what_is_known_of_it(tracker):
    first, label = noise()
    tracker.update(first, (label == 3) * 2)
    before = {name: value.clone() for name, value in tracker.state_dict().items()}
    tracker.update(first * 3, label)  # has no class 2
    for name, value in tracker.state_dict().items():
        assert torch.equal(value[..., 2], before[name][..., 2]), name
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("tracker", [DifficultyTracker(3), ConfidenceBank(3), PerformanceBank(3)])
def test_low_precision_logits_are_measured_in_float32(tracker):
    logits, label = noise()
    tracker.update(logits.bfloat16() * 1000, label)
    assert all(value.isfinite().all() for value in tracker.state_dict().values())
