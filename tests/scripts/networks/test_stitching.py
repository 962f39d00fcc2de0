import numpy as np
import pytest
import torch

from scripts.networks.stitching import LINEAR_RULES, STITCHING_RULES, stitch, stitched_convolution

OWNER = torch.tensor([1, 0, 2, 1])  # of the classes 1..4
OWNING_RULES = [rule for rule in STITCHING_RULES if rule != "mean"]
SCALE_FREE_RULES = ["log_odds", "probability", "mean"]


@pytest.fixture
def logits():
    """[E, B, C, *spatial] of three experts over four classes and background."""
    return torch.randn(3, 2, 5, 4, 3, generator=torch.Generator().manual_seed(0)) * 3


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def reference(z, rule):
    """[E, B, C, H, W] to [B, C, H, W], class by class."""
    p = softmax(z, 2)
    if rule == "mean":
        return np.log(p.mean(0))
    out = np.empty(z.shape[1:])
    out[:, 0] = {"log_odds": 0 * z[0, :, 0], "logits": z[:, :, 0].mean(0), "probability": np.log(p[:, :, 0].prod(0))}[
        rule
    ]
    for c, e in enumerate(OWNER.tolist(), start=1):
        score = {"log_odds": z[e, :, c] - z[e, :, 0], "logits": z[e, :, c], "probability": np.log(p[e, :, c])}
        out[:, c] = score[rule]
    return out


def others_foreground(experts):
    """[E, 1, K, 1, 1], true where an expert does not own the class."""
    return (torch.arange(experts).unsqueeze(1) != OWNER)[:, None, :, None, None]


@pytest.mark.parametrize("rule", STITCHING_RULES)
def test_rule_equals_its_formula(logits, rule):
    np.testing.assert_allclose(stitch(logits, OWNER, rule).numpy(), reference(logits.double().numpy(), rule), atol=1e-5)


@pytest.mark.parametrize("rule", STITCHING_RULES)
def test_rule_works_in_3d_and_in_torchscript(logits, rule):
    volumes = logits.unsqueeze(-1).expand(-1, -1, -1, -1, -1, 2)
    expected = stitch(logits, OWNER, rule).unsqueeze(-1).expand(-1, -1, -1, -1, 2)
    torch.testing.assert_close(stitch(volumes, OWNER, rule), expected)
    torch.testing.assert_close(torch.jit.script(stitch)(volumes, OWNER, rule), expected)


@pytest.mark.parametrize("rule", OWNING_RULES)
def test_foreground_comes_from_its_owner_only(logits, rule):
    changed = logits.clone()
    changed[1] += torch.randn(logits[1].shape, generator=torch.Generator().manual_seed(1))
    before, after = stitch(logits, OWNER, rule), stitch(changed, OWNER, rule)
    owned = OWNER == 1
    assert torch.equal(after[:, 1:][:, ~owned], before[:, 1:][:, ~owned])
    assert not torch.isclose(after[:, 1:][:, owned], before[:, 1:][:, owned]).any()


@pytest.mark.parametrize("rule", ["log_odds", "logits"])
def test_what_an_expert_says_of_other_experts_classes_does_not_count(logits, rule):
    changed = logits.clone()
    changed[:, :, 1:] += 100.0 * others_foreground(3)
    assert torch.equal(stitch(changed, OWNER, rule), stitch(logits, OWNER, rule))


@pytest.mark.parametrize("rule", STITCHING_RULES)
def test_constant_on_all_logits_of_one_expert_changes_nothing_but_under_the_published_rule(logits, rule):
    changed = logits.clone()
    changed[1] += 5.0
    before, after = (stitch(z, OWNER, rule).softmax(1) for z in (logits, changed))
    assert torch.allclose(after, before, atol=1e-5) == (rule in SCALE_FREE_RULES)


@pytest.mark.parametrize("rule", ["log_odds", "logits", "mean"])
def test_experts_that_agree_are_stitched_to_what_each_says(logits, rule):
    same = logits[:1].expand(3, -1, -1, -1, -1)
    torch.testing.assert_close(stitch(same, OWNER, rule).softmax(1), logits[0].softmax(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", STITCHING_RULES)
def test_certain_experts_give_finite_logits_and_gradients(logits, rule):
    certain = (logits * 1000).requires_grad_()
    stitched = stitch(certain, OWNER, rule)
    stitched.log_softmax(1).sum().backward()
    assert stitched.isfinite().all()
    assert certain.grad.isfinite().all()


def test_unknown_rule_is_an_error(logits):
    with pytest.raises(ValueError, match="expected log_odds, logits, probability or mean, found sum"):
        stitch(logits, OWNER, "sum")


def test_log_odds_are_the_default(logits):
    assert torch.equal(stitch(logits, OWNER), stitch(logits, OWNER, "log_odds"))


@pytest.mark.parametrize("rule", STITCHING_RULES)
def test_half_precision_stays_half(logits, rule):
    half = stitch(logits.bfloat16(), OWNER, rule)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), stitch(logits, OWNER, rule), atol=0.2, rtol=0.05)


@pytest.mark.parametrize("rule", OWNING_RULES)
def test_on_another_device_nothing_is_made_of_the_cpus_numbers(logits, rule):
    assert stitch(logits.to("meta"), OWNER.to("meta"), rule).device.type == "meta"


def heads(spatial_dims, size, dtype=torch.float32):
    """Last maps of three experts, weights and biases of the convolutions that make logits of them."""
    draw = torch.Generator().manual_seed(2)
    shapes = (2, 6, *(5, 4, 3)[:spatial_dims]), (5, 6, *[size] * spatial_dims), (5,)
    return [[torch.randn(shape, generator=draw).to(dtype) for _ in range(3)] for shape in shapes]


@pytest.mark.parametrize("rule", LINEAR_RULES)
@pytest.mark.parametrize(("spatial_dims", "size"), [(2, 1), (2, 3), (3, 1), (3, 3)])
def test_stitched_convolution_equals_stitching_of_the_experts_logits(rule, spatial_dims, size):
    maps, weights, biases = heads(spatial_dims, size)
    convolution = getattr(torch.nn.functional, f"conv{spatial_dims}d")
    single = [convolution(*head, padding=size // 2) for head in zip(maps, weights, biases, strict=True)]
    found = stitched_convolution(maps, weights, biases, OWNER, rule)
    torch.testing.assert_close(found, stitch(torch.stack(single), OWNER, rule), atol=1e-4, rtol=1e-4)


def test_stitched_convolution_takes_log_odds_by_default_and_keeps_half_precision():
    found = stitched_convolution(*heads(2, 1), OWNER)
    assert torch.equal(found, stitched_convolution(*heads(2, 1), OWNER, "log_odds"))
    half = stitched_convolution(*heads(2, 1, torch.bfloat16), OWNER)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), found, atol=0.2, rtol=0.05)
