"""The moving average's formula and state."""

import torch
from torch import nn

from scripts.networks import MovingAverage


def test_average_follows_the_warm_up_and_then_the_decay():
    net = nn.Linear(1, 1, bias=False)
    teacher = MovingAverage(net, decay=0.75)
    values = [3.0, 5.0, -1.0, 4.0, 0.5, 2.0, 7.0]
    expected = 0.0
    for t, value in enumerate(values):
        nn.init.constant_(net.weight, value)
        teacher.update_parameters(net)
        a = min(1 - 1 / (t + 1), 0.75)
        expected = a * expected + (1 - a) * value
        assert abs(float(teacher.module.weight) - expected) < 1e-6


def test_statistics_of_the_normalisation_are_copied():
    net = nn.BatchNorm1d(2)
    teacher = MovingAverage(net)
    net(torch.randn(8, 2) + 3)
    teacher.update_parameters(net)
    net(torch.randn(8, 2) - 5)
    teacher.update_parameters(net)
    assert torch.equal(teacher.module.running_mean, net.running_mean)


def test_state_dict_resumes_it_exactly():
    torch.manual_seed(0)
    net = nn.Linear(2, 2)
    teacher = MovingAverage(net, decay=0.9)
    for _ in range(4):
        nn.init.normal_(net.weight)
        teacher.update_parameters(net)
    resumed = MovingAverage(nn.Linear(2, 2), decay=0.9)
    resumed.load_state_dict(teacher.state_dict())
    nn.init.normal_(net.weight)
    for average in (teacher, resumed):
        average.update_parameters(net)
    assert torch.equal(teacher.module.weight, resumed.module.weight)
