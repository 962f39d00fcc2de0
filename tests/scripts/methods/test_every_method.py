"""What holds for every method of the registry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.losses import segmentation_loss
from scripts.methods import METHODS, create_method, create_predictor
from scripts.methods.supervised import Supervised
from scripts.networks import Encoder
from tests.method_cases import batch, fixed_normalisation, small_method
from tests.tiny_training import fingerprint

SEMI_SUPERVISED = sorted(name for name, cls in METHODS.items() if cls.unlabelled)
everyone = pytest.mark.parametrize("name", sorted(METHODS))


def one_step(method, optimizer, data, progress):
    optimizer.zero_grad()
    method.enter(progress)
    losses = method(*data, progress)
    losses["loss"].backward()
    optimizer.step()
    method.after_step(progress)
    return losses


def train(method, optimizer, steps, first=0, total=8, **sizes):
    """Losses of some steps of a training of `total`, each on a batch of its own."""
    found = []
    for step in range(first, first + steps):
        torch.manual_seed(100 + step)
        losses = one_step(method, optimizer, batch(**sizes, seed=step), step / total)
        found.append(losses["loss"].item())
    return found


def sgd(method):
    return torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)


@everyone
def test_loss_is_finite_and_of_float32_under_autocast(name):
    method = small_method(name)
    for progress in (0.0, 0.5, 1.0):
        method.enter(progress)
        with torch.autocast("cpu", torch.bfloat16):
            losses = method(*batch(), progress)
        assert all(loss.isfinite() and loss.dtype == torch.float32 and loss.dim() == 0 for loss in losses.values())
        losses["loss"].backward()
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@everyone
def test_a_step_in_3d_moves_the_predictor(name):
    method = small_method(name, spatial_dims=3)
    before = [p.clone() for p in method.predictor.parameters()]
    train(method, sgd(method), 1, spatial=(32, 16, 16))
    assert sum(not torch.equal(b, p) for b, p in zip(before, method.predictor.parameters(), strict=True)) > 10


@everyone
@pytest.mark.parametrize("spatial", [(32, 32), (32, 16, 16)], ids=["2d", "3d"])
def test_a_step_learns_from_every_channel(name, spatial):
    method = small_method(name, len(spatial), in_channels=2)
    encoder = next(part for part in method.predictor.modules() if isinstance(part, Encoder))
    first = next(part for part in encoder.modules() if isinstance(part, torch.nn.modules.conv._ConvNd))
    before, optimizer = first.weight.detach().clone(), sgd(method)
    for progress in (0.0, 0.6):
        assert one_step(method, optimizer, batch(spatial, channels=2), progress)["loss"].isfinite()
    assert (first.weight != before).flatten(2).any(2).any(0).tolist() == [True, True]


@everyone
@pytest.mark.parametrize("present", [[0], [0, 3], [3]])
def test_classes_that_are_absent_or_of_one_voxel_give_finite_losses_and_gradients(name, present):
    method = small_method(name)
    image, _, image_u = batch(labelled=1, unlabelled=1)
    label = torch.full((1, 32, 32), present[0])
    label[0, 5, 7] = present[-1]
    optimizer = sgd(method)
    for step in range(3):
        losses = one_step(method, optimizer, (image, label, image_u), step / 3)
        assert losses["loss"].isfinite()
    assert all(p.isfinite().all() for p in method.parameters())


@everyone
def test_it_trains_without_unlabelled_images(name):
    method = small_method(name)
    image, label, _ = batch()
    before = [p.clone() for p in method.predictor.parameters()]
    losses = one_step(method, sgd(method), (image, label, None), 0.5)
    assert losses["loss"].isfinite()
    assert any(not torch.equal(b, p) for b, p in zip(before, method.predictor.parameters(), strict=True))


def unlabelled_images_have_a_say(make):
    """Whether other unlabelled images make other weights; normalisation is fixed, so that only the loss has a way."""
    image, label, image_u = batch()
    moved = []
    for other in (image_u, image_u.flip(0) * 2 + 1):
        method = fixed_normalisation(make())
        optimizer = sgd(method)
        for progress in (0.9, 0.95, 1.0):
            torch.manual_seed(3)
            one_step(method, optimizer, (image, label, other), progress)
        moved.append(torch.cat([p.detach().flatten() for p in method.predictor.parameters()]))
    return not torch.equal(*moved)


@pytest.mark.parametrize("name", SEMI_SUPERVISED)
def test_unlabelled_images_have_a_say_in_the_end(name):
    assert unlabelled_images_have_a_say(lambda: small_method(name))


def test_a_method_that_normalises_unlabelled_images_and_ignores_them_is_noticed():
    class Ignorant(Supervised):
        def forward(self, image, label, image_u, progress):
            logits = self.predictor(torch.cat([image, image_u]))
            return {"loss": segmentation_loss(logits[: len(image)], label)}

    assert not unlabelled_images_have_a_say(lambda: Ignorant(small_method("supervised").predictor))


@everyone
def test_its_state_dict_resumes_it_exactly(name):
    cut = 4
    unbroken = small_method(name)
    optimizer = sgd(unbroken)
    expected = train(unbroken, optimizer, 7)
    method = small_method(name)
    optimizer = sgd(method)
    found = train(method, optimizer, cut)
    resumed = small_method(name)
    resumed.load_state_dict(method.state_dict())
    resumed_optimizer = sgd(resumed)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    found += train(resumed, resumed_optimizer, 7 - cut, first=cut)
    assert found == expected
    assert fingerprint(resumed.state_dict()) == fingerprint(unbroken.state_dict())


@pytest.mark.parametrize("name", list({cls.network: name for name, cls in METHODS.items()}.values()))
def test_its_predictor_exports_to_torchscript(name, tmp_path):
    net = small_method(name).predictor.eval()
    torch.jit.script(net).save(tmp_path / "model.ts")
    exported = torch.jit.load(tmp_path / "model.ts")
    with torch.no_grad():
        for size in ((32, 32), (21, 40)):
            image = torch.randn(1, 1, *size)
            torch.testing.assert_close(exported(image), net(image))
            assert net(image).shape == (1, 6, *size)


@everyone
def test_all_that_a_method_has_goes_to_the_device_of_its_predictor(name, monkeypatch):
    monkeypatch.setattr("scripts.methods.dca.class_sizes", lambda *arguments: np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    with torch.device("meta"):  # which every machine has
        net = create_predictor(name, style="unet", spatial_dims=2, in_channels=1, num_classes=5, width=2)
    method = create_method(name, net)
    assert {tensor.device.type for tensor in (*method.parameters(), *method.buffers())} == {"meta"}


@everyone
def test_sizes_that_need_padding_train_as_well(name):
    method = small_method(name)
    assert one_step(method, sgd(method), batch(spatial=(45, 38)), 0.5)["loss"].isfinite()
