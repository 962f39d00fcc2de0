"""TAK: GA's loss with the class's own output layer, and what its contrast draws together."""

import math

import pytest
import torch

from scripts.errors import UserError
from scripts.methods.parts.class_contrast import IGNORED
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def tak(**options):
    return fixed_normalisation(small_method("tak", noise=0.0, **options))


def contrasted(method, data, progress=1.0):
    """What the contrast is given in a step: maps by level and way, and labels by way."""
    seen = []
    handle = method.contrast.register_forward_pre_hook(lambda module, args: seen.append(args))
    losses = method(*data, progress)
    handle.remove()
    ((levels, labels, *_),) = seen
    return levels, labels, losses


def test_loss_is_that_of_ga_and_from_its_start_on_a_tenth_of_the_contrast():
    method, data = tak(start=0.2), batch()
    form, recent = method.enter(0.1), method.recent.shares.clone()
    torch.manual_seed(3)
    before = method(*data, 0.9)
    assert method.enter(0.2) == form + 1
    method.recent.start(recent)  # what the first call has seen would blend into the second's pseudo-labels
    torch.manual_seed(3)
    after = method(*data, 0.9)
    assert after.keys() - before.keys() == {"loss_contrast"}
    assert after["loss_supervised"] == before["loss_supervised"]
    assert after["loss"].item() == pytest.approx(before["loss"].item() + 0.1 * after["loss_contrast"].item(), rel=1e-6)
    ramp = math.exp(-5 * 0.1**2)
    parts = [before[f"loss_{name}"].item() for name in ("supervised", "location", "unlabelled")]
    assert before["loss"].item() == pytest.approx(parts[0] + 0.1 * parts[1] + 0.1 * ramp * parts[2], rel=1e-6)


def test_contrast_sees_the_three_deepest_maps_whole_mixed_within_and_of_the_whole_unlabelled_images():
    method, (image, label, image_u) = tak(), batch(spatial=(64, 64))
    levels, labels, _ = contrasted(method, (image, label, image_u))
    assert [[tuple(m.shape) for m in level] for level in levels] == [
        [(count, channels, side, side) for count in (2, 4, 4, 2)] for channels, side in ((8, 16), (16, 8), (32, 4))
    ]
    net = method.predictor
    whole, whole_u = net.encoder(image), net.encoder(image_u)
    for level, maps in enumerate(levels):
        torch.testing.assert_close(maps[0], whole[2 + level])
        torch.testing.assert_close(maps[3], whole_u[2 + level])
        quarter = net.encoder(image_u[1:, :, 32:, :32])[2 + level]  # within: every cube alone
        torch.testing.assert_close(maps[2][3:, :, maps[2].shape[2] // 2 :, : maps[2].shape[3] // 2], quarter)
    for given, count in zip(labels, (2, 4, 4, 2), strict=True):
        assert len(given) == count
        if count > 2 or given is labels[0]:
            assert torch.equal(given[:2], label)


@pytest.mark.parametrize("spatial", [(32, 32), (64, 48), (45, 38)])
def test_maps_of_mixed_images_return_cube_by_cube(spatial, monkeypatch):
    """Images of one value each: whatever a cube shows in the end, its own image was there."""
    method = tak()
    image, label, image_u = batch(spatial=spatial)
    values = torch.arange(4.0).view(4, 1, 1, 1)
    image, image_u = (torch.zeros_like(x) + v for x, v in zip((image, image_u), values.split(2), strict=True))

    def encode(images):  # what the voxels show, at every resolution
        return [torch.nn.functional.avg_pool2d(images, 2**level) for level in range(5)]

    shown = []
    monkeypatch.setattr(method.predictor.encoder, "forward", encode)
    monkeypatch.setattr(type(method.predictor.decoder), "maps", lambda self, features: features[:1])
    monkeypatch.setattr(method, "logits", lambda maps: shown.append(maps) or torch.zeros(len(maps[0]), 6, 64, 64))
    monkeypatch.setattr(
        method, "_cube_by_cube", lambda images: (encode(images)[2:] + encode(images)[:1], torch.zeros(()))
    )
    monkeypatch.setattr(method, "_ask", lambda *given: (torch.zeros(2, 6, *spatial),) * 2)
    monkeypatch.setattr(method, "_contrast", lambda *given: torch.zeros(()))
    torch.manual_seed(0)
    method(image, label, image_u, 1.0)
    (_, mixed, _) = shown
    for level, m in enumerate(mixed[:3]):
        stride = 4 * 2**level
        assert m.shape[2:] == tuple(-(-(side + side % 2) // stride) for side in spatial)
        if all(side % (2 * stride) == 0 for side in spatial):  # else a voxel shows two cubes
            torch.testing.assert_close(m, values.expand_as(m))
    torch.testing.assert_close(mixed[3], values.expand_as(mixed[3]))


def test_unlabelled_voxels_have_the_teachers_class_or_the_blends_where_these_are_sure(monkeypatch):
    method, data = tak(), batch()
    teacher, blended = (torch.zeros(2, 6, 32, 32) for _ in range(2))
    teacher[:, 4], blended[:, 2] = 5.0, 5.0
    teacher[:, :, :16], blended[:, :, :, 16:] = 0.0, 0.0  # of entropy ln 6
    monkeypatch.setattr(method, "_ask", lambda *given: (teacher, blended))
    _, labels, _ = contrasted(method, data)
    of_teacher = torch.full((2, 32, 32), 4)
    of_teacher[:, :16] = IGNORED
    of_blend = torch.full((2, 32, 32), 2)
    of_blend[:, :, 16:] = IGNORED
    for given, expected in ((labels[1][2:], of_teacher), (labels[2][2:], of_blend), (labels[3], of_teacher)):
        assert torch.equal(given, expected)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.75 + 0.25 * math.exp(-5)), (100 / 161, 1.0), (1.0, 1.0)])
def test_entropy_counts_up_to_a_share_of_ln_2_that_rises(progress, share):
    p = torch.linspace(0.5, 0.999, 500)
    logits = torch.stack([p.log(), (1 - p).log()]).view(1, 2, 1, 500)
    found = tak()._sure(logits, progress)[0, 0]
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    near = (entropy - share * math.log(2)).abs() < 1e-4
    assert torch.equal((found == 0)[~near], (entropy < share * math.log(2))[~near])


def test_contrast_trains_the_encoder_the_vectors_and_its_own_heads():
    method = tak()
    loss = method(*batch(), 1.0)["loss_contrast"]
    net = method.predictor
    for part in (net.encoder, net.read, method.contrast):
        assert gradient(loss, part).any()
    assert torch.autograd.grad(loss, net.text, retain_graph=True)[0].any()
    for part in (net.decoder, net.control, method.location):
        assert not gradient(loss, part).any()
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_labels_alone_are_contrasted_without_unlabelled_images():
    image, label, _ = batch()
    levels, labels, losses = contrasted(tak(), (image, label, None))
    assert [len(m) for m in levels[0]] == [2, 2, 2]
    assert all(torch.equal(given, label) for given in labels)
    assert losses["loss_contrast"] > 0


def test_half_and_a_quarter_of_the_voxels_are_drawn_at_the_deeper_levels():
    assert tak(voxels=40).contrast.voxels == [40, 20, 10]
    with pytest.raises(UserError, match=r"^method tak, voxels: expected at least 4, found 3$"):
        tak(voxels=3)
