"""ClassCodeNet: every class's own three layers, made out of its code and the image's."""

import pytest
import torch

from scripts.errors import UserError
from scripts.networks import ClassCodeNet


def network(**options):
    torch.manual_seed(0)
    return ClassCodeNet("unet", 2, 1, 3, 4, dropout=0.0, **options).eval()


def test_logits_are_those_of_three_layers_per_image_and_class():
    net = network()
    last, codes = torch.randn(2, 4, 6, 5), torch.rand(2, 64)
    found = net.logits(last, codes)
    assert found.shape == (2, 4, 6, 5)
    hidden = net.decoder.out(net.last_norm(last).relu())
    classes = net.class_codes()
    for b in range(2):
        for c in range(4):
            theta = net.control(torch.cat([codes[b], classes[c]]))
            assert len(theta) == 153
            w1, w2, w3 = theta[:64].view(8, 8), theta[64:128].view(8, 8), theta[128:136]
            b1, b2, b3 = theta[136:144], theta[144:152], theta[152]
            for y in range(6):
                for x in range(5):
                    z = (w2 @ (w1 @ hidden[b, :, y, x] + b1).relu() + b2).relu()
                    torch.testing.assert_close(found[b, c, y, x], w3 @ z + b3, rtol=1e-4, atol=1e-5)


def test_code_of_a_class_comes_from_its_two_vectors_in_their_order():
    net = network()
    before = net.class_codes()
    first, second = net.read(net.text[0, 2]).relu(), net.read(net.text[1, 2]).relu()
    torch.testing.assert_close(before[2], net.join(torch.cat([first, second])).relu())
    with torch.no_grad():
        net.text[1, 2] += 1.0
    assert torch.equal((before != net.class_codes()).any(1), torch.tensor([False, False, True, False]))


def test_code_of_an_image_is_the_mean_over_its_three_deepest_maps():
    net = network()
    features = net.encoder(torch.randn(2, 1, 32, 32))
    expected = []
    for maps, (norm, *_, linear) in zip(features[2:], net.image_codes, strict=True):
        grouped = maps.unflatten(1, (norm.num_groups, -1))
        axes = (2, 3, 4)
        standard = (grouped - grouped.mean(axes, keepdim=True)) / (
            grouped.var(axes, keepdim=True, correction=0) + norm.eps
        ).sqrt()
        expected.append(linear(standard.flatten(1, 2).relu().mean((2, 3))))
    torch.testing.assert_close(net.image_code(features), torch.stack(expected).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.image_code(features[2:]), net.image_code(features))


@pytest.mark.parametrize(("text", "trained"), [("learned", True), ("random", False)])
def test_vectors_are_learned_or_stay_and_are_kept_with_the_weights(text, trained):
    net = network(text=text)
    assert 0.2 < net.text.std() < 0.22
    assert net.text.shape == (2, 4, 512)
    assert "text" in net.state_dict()
    net(torch.randn(1, 1, 32, 32)).sum().backward()
    assert (net.text.grad is not None) == trained


def test_logits_depend_on_the_voxel_from_the_start():
    torch.manual_seed(0)
    for width in (4, 16):
        net = ClassCodeNet("unet", 2, 1, 3, width, dropout=0.0)
        logits = net(torch.randn(2, 1, 64, 64))
        assert 0.05 < logits.flatten(2).std(2).mean() < 2.0
        assert (logits[:, 0] - logits[:, 1]).abs().mean() > 1e-3  # and on the class


def test_unknown_text_is_refused_with_the_nearest_known_one():
    with pytest.raises(UserError, match=r"^text: .* found 'learnt'; did you mean 'learned'\?$"):
        network(text="learnt")


def test_a_volume_is_segmented_alike_whatever_else_is_in_the_batch():
    torch.manual_seed(0)
    net = ClassCodeNet("vnet", 3, 1, 3, 4).eval()
    images = torch.randn(2, 1, 16, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(images)[:1], net(images[:1]), rtol=1e-4, atol=1e-5)
