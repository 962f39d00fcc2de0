"""Label maps in noise: what is put in, what comes out in ten steps, and what the shared encoder keeps of it."""

import numpy as np
import pytest
import torch
from torch import nn

from scripts.networks import LabelDiffusion, SegmentationNet
from tests.method_cases import gradient

# DDPM's schedule: beta rises evenly from 1e-4 to 0.02.
KEPT = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def networks(style="unet", spatial_dims=2, in_channels=1, **options):
    net = SegmentationNet(style, spatial_dims, in_channels, 3, 4, dropout=0.0)
    return net, LabelDiffusion(net, **options)


def times(step, images=2):
    return torch.full((images,), step)


def test_labels_are_noised_by_the_formula_of_ddpm():
    _, diffusion = networks()
    label = torch.randint(4, (3, 5, 7))
    torch.manual_seed(3)
    steps, noise = torch.randint(1000, (3,)), torch.randn(3, 4, 5, 7)
    kept = KEPT[steps.numpy()][:, None, None, None]
    clean = np.stack([np.where(label.numpy() == c, 1.0, -1.0) for c in range(4)], 1)
    torch.manual_seed(3)
    noisy, found = diffusion.add_noise(label)
    assert torch.equal(found, steps)
    np.testing.assert_allclose(noisy, np.sqrt(kept) * clean + np.sqrt(1 - kept) * noise.numpy(), atol=1e-4)


def test_all_time_steps_are_drawn():
    _, diffusion = networks(timesteps=5, sampling_steps=5)
    steps = diffusion.add_noise(torch.zeros(200, 1, 1, dtype=torch.long))[1]
    assert steps.unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("sampling_steps", "passed"),
    [(10, [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]), (2, [999, 499]), (1, [999])],
)
@torch.no_grad()
def test_sampling_equals_the_formula_of_ddim(sampling_steps, passed):
    net, diffusion = networks(sampling_steps=sampling_steps)
    image = torch.randn(2, 1, 32, 32)
    torch.manual_seed(3)
    x = torch.randn(2, 4, 32, 32)
    for i, step in enumerate(passed):
        logits = diffusion(net.encoder, image, x, times(step))
        clean = 2 * logits.softmax(1) - 1
        before = KEPT[passed[i + 1]] if i + 1 < len(passed) else 1.0
        noise = (x - KEPT[step] ** 0.5 * clean) / (1 - KEPT[step]) ** 0.5
        x = (before**0.5 * clean + (1 - before) ** 0.5 * noise).float()
    torch.manual_seed(3)
    torch.testing.assert_close(diffusion.sample(net.encoder, image), logits, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_normalisation_does_not_take_the_time_out_again():
    net, diffusion = networks()
    for module in [*net.modules(), *diffusion.modules()]:  # without a border, at which a constant would show
        if isinstance(module, nn.modules.conv._ConvNd):
            module.padding_mode = "circular"
    image, noisy = torch.randn(2, 1, 32, 32), torch.randn(2, 4, 32, 32)
    early, late = (diffusion(net.encoder, image, noisy, times(step)) for step in (99, 999))
    assert (early - late).std() > 0.01 * early.std()


def test_every_level_is_told_the_time():
    net, diffusion = networks()
    logits = diffusion(net.encoder, torch.randn(2, 1, 32, 32), torch.randn(2, 4, 32, 32), torch.tensor([3, 700]))
    assert len(diffusion.shifts) == len(net.encoder.levels)
    assert all(gradient(logits.square().mean(), shift).any() for shift in diffusion.shifts)


def test_the_encoders_normalisation_does_not_remember_noisy_maps():
    net, diffusion = networks()
    image = torch.randn(2, 1, 32, 32)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    diffusion(net.encoder, image, *diffusion.add_noise(torch.zeros(2, 32, 32)))
    diffusion.sample(net.encoder, image)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    net(image)
    assert not any(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())


def test_the_encoder_is_shared_but_for_its_first_level():
    net, diffusion = networks()
    assert not {id(p) for p in diffusion.parameters()} & {id(p) for p in net.parameters()}
    loss = diffusion(net.encoder, torch.randn(2, 1, 32, 32), torch.randn(2, 4, 32, 32), times(9)).square().mean()
    assert [bool(gradient(loss, level).any()) for level in net.encoder.levels] == [False, True, True, True, True]
    assert gradient(loss, diffusion.stem).any()
    assert gradient(loss, diffusion.decoder).any()
    assert not gradient(loss, net.decoder).any()


def test_a_sample_has_no_gradient():
    net, diffusion = networks()
    assert not diffusion.sample(net.encoder, torch.randn(2, 1, 32, 32)).requires_grad


@pytest.mark.parametrize("style", ["unet", "vnet"])
@pytest.mark.parametrize("spatial", [(32, 32), (45, 18), (32, 32, 16), (17, 33, 20)])
def test_logits_have_the_size_of_any_image(style, spatial):
    net, diffusion = networks(style, len(spatial), in_channels=2, sampling_steps=2)
    image = torch.randn(2, 2, *spatial)
    logits = diffusion(net.encoder, image, *diffusion.add_noise(torch.zeros(2, *spatial)))
    sample = diffusion.sample(net.encoder, image)
    assert logits.shape == sample.shape == (2, 4, *spatial)
    assert logits.isfinite().all()
    assert sample.isfinite().all()
