"""The learning rate: polynomial decay, a warm-up, and a fresh start in every round."""

import pytest
import torch
from torch.optim.lr_scheduler import PolynomialLR

from scripts.training.schedules import PolynomialRounds


def sgd():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def rates(make, steps):
    """The rates of some steps, and the one after the last."""
    optimizer = sgd()
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_one_round_is_torchs_polynomial_decay():
    expected = rates(lambda optimizer: PolynomialLR(optimizer, 50, 0.9), 50)
    found = rates(lambda optimizer: PolynomialRounds(optimizer, 50), 50)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found[0] == 0.1
    assert found[-1] == 0.0


def test_rate_starts_anew_in_every_round():
    found = rates(lambda optimizer: PolynomialRounds(optimizer, 6, rounds=2, power=1.0), 6)
    assert found == pytest.approx([0.1, 0.1 * 2 / 3, 0.1 / 3, 0.1, 0.1 * 2 / 3, 0.1 / 3, 0.0])


def test_rounds_that_do_not_divide_the_steps_begin_at_the_first_step_of_their_share():
    """Rounds of 5/2 steps: steps 0 to 2, and 3 and 4, which are 1/2 and 3/2 steps into theirs."""
    found = rates(lambda optimizer: PolynomialRounds(optimizer, 5, rounds=2, power=1.0), 5)
    assert found == pytest.approx([0.1, 0.06, 0.02, 0.08, 0.04, 0.0])


def test_every_round_has_the_warm_up():
    found = rates(lambda optimizer: PolynomialRounds(optimizer, 8, rounds=2, warmup=1, power=1.0), 8)
    once = [0.1 / 2, 0.1 * 3 / 4, 0.1 * 2 / 4, 0.1 / 4]
    assert found == pytest.approx([*once, *once, 0.0])


def test_it_resumes_from_its_own_state_and_from_that_of_torchs():
    found = rates(lambda optimizer: PolynomialRounds(optimizer, 6, rounds=2), 6)
    for cls, rounds in ((PolynomialRounds, 2), (PolynomialLR, 1)):
        first = cls(sgd(), 6, rounds) if cls is PolynomialRounds else cls(sgd(), 6, 0.9)
        for _ in range(4):
            first.optimizer.step()
            first.step()
        optimizer = sgd()
        schedule = PolynomialRounds(optimizer, 6, rounds)
        schedule.load_state_dict(first.state_dict())
        optimizer.step()
        schedule.step()
        expected = found[5] if rounds == 2 else 0.1 * (1 / 6) ** 0.9
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
