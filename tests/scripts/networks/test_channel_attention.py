"""Channel attention equals its formula, window by window, and a network with it takes images of any size."""

import numpy as np
import pytest
import torch

from scripts.networks import AttentionNet
from scripts.networks.channel_attention import ChannelAttention, from_windows, to_windows
from tests import numpy_losses

CHANNELS = 6


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attention(heads=2, local=False):
    """With weights as large as its input, so that the attention is far from even."""
    module = ChannelAttention(CHANNELS, heads, local)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module


def maps(*spatial):
    return torch.randn(2, CHANNELS, *spatial), torch.randn(2, CHANNELS, *spatial)


def normalised(module, x):
    """Each row of [voxels, channels]."""
    scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return scaled * weight(module.norm) + module.norm.bias.detach().double().numpy()


def weight(layer):
    return layer.weight.detach().double().numpy()


def linear(layer, x):
    return x @ weight(layer).T + layer.bias.detach().double().numpy()


def added(module, x, contexts):
    """What is added to one window [C, voxels] of one image out of that of several, by the formula."""
    q = linear(module.query, normalised(module, x.T)).T
    kv = [linear(module.key_value, normalised(module, context.T)).T for context in contexts]
    side = CHANNELS // module.heads
    found = []
    for h in range(module.heads):
        rows = slice(h * side, (h + 1) * side)
        k, v = (np.concatenate([both[half][rows] for both in kv]) for half in (slice(CHANNELS), slice(CHANNELS, None)))
        scores = q[rows] @ k.T
        scores = (scores - scores.mean()) / np.sqrt(scores.var() + 1e-5)
        found.append(numpy_losses.softmax(scores) @ v)
    return linear(module.project, np.concatenate(found).T).T


def expected(module, x, context, window):
    """[B, C, *spatial], by a walk over images and windows; the last voxels are repeated to fill a window."""
    x = x.double().numpy()
    size = x.shape[2:]
    pad = [(0, 0), (0, 0)] + [(0, -n % w) for n, w in zip(size, window, strict=True)]
    own = np.pad(x, pad, "edge")
    other = None if context is None else np.pad(context.double().numpy(), pad, "edge")
    out = own.copy()
    for b in range(len(x)):
        for corner in np.ndindex(*[n // w for n, w in zip(own.shape[2:], window, strict=True)]):
            box = (slice(None), *(slice(i * w, (i + 1) * w) for i, w in zip(corner, window, strict=True)))
            image = own[b][box].reshape(CHANNELS, -1)
            contexts = [image] if other is None else [one[box].reshape(CHANNELS, -1) for one in other]
            out[b][box] += added(module, image, contexts).reshape(own[b][box].shape)
    return out[(..., *(slice(n) for n in size))]


@pytest.mark.parametrize("spatial", [(4, 6), (3, 5), (1, 1), (4, 2, 6), (3, 4, 1)])
@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_attention_equals_its_formula(spatial, local, heads, others):
    module, (x, _) = attention(heads, local), maps(*spatial)
    context = torch.randn(others, CHANNELS, *spatial) if others else None
    window = (2,) * len(spatial) if local else spatial
    found = module(x, context).detach().numpy()
    np.testing.assert_allclose(found, expected(module, x, context, window), rtol=1e-3, atol=1e-3)


def test_by_itself_an_image_sees_nothing_of_the_others_in_its_batch():
    module, (x, other) = attention(), maps(3, 4)
    together = module(torch.cat([x, other]))
    torch.testing.assert_close(together[: len(x)], module(x))
    assert not torch.allclose(module(x, torch.cat([x, other]))[: len(x)], module(x))


def test_a_window_sees_nothing_of_the_others():
    module, (x, context) = attention(local=True), maps(4, 4)
    changed = context.clone()
    changed[..., :2, 2:] += torch.randn(2, CHANNELS, 2, 2)
    same = torch.isclose(module(x, context), module(x, changed), atol=1e-6).all(1)
    assert not same[:, :2, 2:].any()
    assert same[:, 2:].all()
    assert same[:, :2, :2].all()


@pytest.mark.parametrize("size", [(4, 6), (2, 6, 8)])
def test_windows_are_undone(size):
    x = torch.randn(2, 3, *size)
    window = [2] * len(size)
    windows = to_windows(x, window)
    assert windows.shape == (2, x[0, 0].numel() // 2 ** len(size), 2 ** len(size), 3)
    assert torch.equal(from_windows(windows, window, list(x.shape)), x)


@pytest.mark.parametrize(("style", "size"), [("unet", (45, 38)), ("vnet", (32, 17, 16)), ("vnet", (7, 5))])
def test_network_attends_in_windows_first_and_then_over_the_whole_map(style, size):
    net = AttentionNet(style, len(size), 1, 3, 4, dropout=0.0)  # in training mode, in which the deepest map counts
    image = torch.randn(2, 1, *size)
    padded = torch.nn.functional.pad(image, [n for s in reversed(size) for n in (0, -s % 16)], "replicate")
    *skips, deepest = net.encoder(padded)
    assert [stage.multiple for stage in net.attention] == [2, 1]
    for stage in net.attention:
        deepest = stage(deepest)
    logits = net.decoder([*skips, deepest])[-1][(..., *(slice(n) for n in size))]
    torch.testing.assert_close(net(image), logits)
    assert logits.shape == (2, 4, *size)


def test_torchscript_equals_the_eager_network_in_3d():
    net = AttentionNet("vnet", 3, 1, 3, 2)  # in training mode, see above
    exported = torch.jit.script(net)
    for size in ((32, 48, 16), (21, 33, 9)):
        image = torch.randn(1, 1, *size)
        # In training the eager network's transposed convolutions are products of matrices: another rounding.
        torch.testing.assert_close(exported(image), net(image), rtol=1e-4, atol=1e-4)
