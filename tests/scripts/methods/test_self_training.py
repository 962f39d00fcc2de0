"""Self-training: rounds, a teacher that stays as it is, and a student that is new."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from torch import distributed

from scripts.errors import UserError
from scripts.losses import segmentation_loss
from scripts.methods import METHODS, create_predictor
from scripts.methods.self_training import draw_anew
from scripts.training.schedules import PolynomialRounds
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method
from tests.tiny_training import fingerprint, make_method, make_trainer, phantom_streams


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def in_second_round(**options):
    """A method with a teacher of its own opinion, and normalisation that does not depend on the batch."""
    method = small_method("self_training", **options)
    method.enter(0.5)
    with torch.no_grad():
        method.teacher.decoder.out.weight.mul_(-3.0)
    return fixed_normalisation(method)


def test_the_first_round_is_labels_only():
    method = small_method("self_training").eval()
    image, label, image_u = batch()
    assert method.enter(0.49) == 0
    loss = method(image, label, image_u, 0.49)["loss"]
    assert loss == segmentation_loss(method.predictor(image), label)


@pytest.mark.parametrize("absent", ["skip", "smooth"])
def test_loss_of_the_second_round_is_that_of_one_batch_with_the_teachers_labels(absent):
    method, (image, label, image_u) = in_second_round(absent=absent), batch()
    pseudo = method.teacher(image_u).argmax(1)
    logits = method.predictor(torch.cat([image, image_u])).detach().double().numpy()
    target = torch.cat([label, pseudo]).numpy()
    p = numpy_losses.softmax(logits)
    expected = 0.5 * (numpy_losses.dice(p, target, absent=absent) + numpy_losses.cross_entropy(p, target))
    loss = method(image, label, image_u, 0.6)["loss"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert gradient(loss, method.predictor).any()
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_a_new_round_makes_the_student_the_teacher_and_draws_a_student():
    method = small_method("self_training", rounds=3)
    method.train()
    method.predictor(torch.randn(2, 1, 32, 32))  # statistics of its own
    kept = list(method.predictor.parameters())
    for form, progress in enumerate((1 / 3, 2 / 3), start=1):
        before = weights(method.predictor)
        assert method.enter(progress - 1e-9) == form - 1
        assert equal(before, method.predictor.state_dict())
        assert method.enter(progress) == form
        assert equal(before, method.teacher.state_dict())
        assert not any(
            torch.equal(before[name], value) for name, value in method.predictor.named_parameters() if value.dim() > 1
        )
        assert method.enter(progress + 0.01) == form
        assert equal(before, method.teacher.state_dict())
    assert all(one is other for one, other in zip(kept, method.predictor.parameters(), strict=True))


@pytest.mark.parametrize(
    ("style", "dims", "norm"), [("unet", 2, "BATCH"), ("vnet", 3, "BATCH"), ("vnet", 3, "INSTANCE")]
)
def test_a_network_drawn_anew_is_one_that_was_just_made(style, dims, norm):
    def make():
        torch.manual_seed(5)
        common = {"style": style, "spatial_dims": dims, "in_channels": 1, "num_classes": 3, "width": 2}
        return create_predictor("self_training", options={"norm": norm}, **common)

    new, used = make(), make()
    for _ in range(2):
        used.train()(torch.randn(2, 1, *[32] * dims))
    with torch.no_grad():
        for parameter in used.parameters():
            parameter.mul_(2.0).add_(1.0)
    torch.manual_seed(5)
    draw_anew(used)
    assert all(hasattr(m, "reset_parameters") for m in used.modules() if [*m.parameters(False), *m.buffers(False)])
    assert equal(weights(new), used.state_dict())


def test_the_teacher_is_asked_in_evaluation_mode_and_does_not_change():
    method = small_method("self_training")
    method.enter(0.5)
    before, modes = weights(method.teacher), []
    method.teacher.register_forward_pre_hook(lambda module, args: modes.append({m.training for m in module.modules()}))
    method.train()
    method(*batch(), 0.6)
    method.after_step(0.6)
    assert method.predictor.training
    assert modes == [{False}]
    assert equal(before, method.teacher.state_dict())


@pytest.mark.parametrize(("mirror", "passes"), [((), 1), ((1,), 2), ((0, 1), 4)])
def test_mirrored_probabilities_are_averaged(mirror, passes):
    method, image_u = in_second_round(mirror=mirror), batch()[2]
    total = torch.zeros(2, 6, 32, 32)
    for rows in [False, True] if 0 in mirror else [False]:
        for columns in [False, True] if 1 in mirror else [False]:
            axes = [axis for axis, flipped in ((-2, rows), (-1, columns)) if flipped]
            total += method.teacher(image_u.flip(axes)).softmax(1).flip(axes)
    runs = []
    method.teacher.register_forward_hook(lambda *_: runs.append(1))
    found = method._label(image_u)
    assert len(runs) == passes
    assert torch.equal(found, total.argmax(1))
    if passes > 1:
        assert not torch.equal(found, method.teacher(image_u).argmax(1))


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match=r"^method self_training, rounds: expected at least 2, found 1$"):
        small_method("self_training", rounds=1)
    with pytest.raises(UserError, match=r"^method self_training, mirror: expected axes from 0 to 1, found \[2\]$"):
        small_method("self_training", mirror=[2])


def test_several_processes_draw_the_same_student(monkeypatch):
    def broadcast(tensor, source):
        assert source == 0
        assert tensor.is_contiguous()
        tensor.fill_(7.0)  # what the first process has drawn

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "broadcast", broadcast)
    net = small_method("self_training").predictor.to(memory_format=torch.channels_last)
    draw_anew(net)
    assert all((parameter == 7.0).all() for parameter in net.parameters())


@pytest.fixture(scope="module")
def streams(heart_phantom: Path):
    return phantom_streams(heart_phantom)


def trainer(folder, streams, seed=0, **options):
    """A run of 12 steps whose second round begins at the seventh."""
    made = make_trainer(folder, streams, make_method("self_training", seed=seed), **options)
    made.lr_scheduler = PolynomialRounds(made.optimizer, made.total_steps, made.method.rounds)
    return made


class PowerCutError(Exception):
    """Ends a run from outside."""


@pytest.mark.parametrize("epoch", [1, 2, 3])  # in the first round, between both, and in the second
def test_a_run_that_was_cut_off_goes_on_with_its_student_and_teacher(streams, tmp_path, epoch):
    unbroken = trainer(tmp_path / "unbroken", streams)
    seen = []
    unbroken.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(unbroken.method.round))
    unbroken.run()
    assert seen == [0] * 6 + [1] * 6

    def strike():
        raise PowerCutError

    first = trainer(tmp_path / "cut", streams)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=3 * epoch + 1), strike)
    with pytest.raises(PowerCutError):
        first.run()
    resumed = trainer(tmp_path / "cut", streams, seed=9, resume=True)
    resumed.run()
    assert fingerprint(resumed.method.state_dict()) == fingerprint(unbroken.method.state_dict())
    assert fingerprint(resumed.optimizer.state_dict()) == fingerprint(unbroken.optimizer.state_dict())


def test_other_methods_train_in_one_round():
    assert {name for name, cls in METHODS.items() if cls.rounds != 1} == set()
    assert small_method("self_training").rounds == 2
    assert small_method("self_training", rounds=3).changes == (1 / 3, 2 / 3)
