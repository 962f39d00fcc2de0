"""The whole loss of every method at its published setting, against numbers worked out by hand.

The networks are made to give the same probabilities everywhere: 1/4 of background and 3/4 of foreground (`SURE`, which
takes every voxel for foreground) or the reverse (`UNSURE`, which takes it for background). Against labels of which half
the voxels are foreground, both have

    CE = (ln 4 + ln 4/3) / 2 = 0.836988
    D = mean of 1 - 2 (1/4 1/2) / (1/16 + 1/2) = 5/9 and 1 - 2 (3/4 1/2) / (9/16 + 1/2) = 5/17: 0.424837
    L_seg = (CE + D) / 2 = 0.630912

and against labels of one class, where an absent foreground has no Dice and an absent background one of 1,

    SURE against foreground:    CE = ln 4/3, D = (1 + 1/25) / 2   L_seg = 0.403841
    SURE against background:    CE = ln 4,   D = 9/17             L_seg = 0.957853
    UNSURE against foreground:  CE = ln 4,   D = (1 + 9/17) / 2   L_seg = 1.075500
    UNSURE against background:  CE = ln 4/3, D = 1/25             L_seg = 0.163841

Every loss is taken at the end of the training, where all ramps are 1.
"""

from __future__ import annotations

import math

import pytest
import torch

from scripts.methods import METHODS
from tests.constant_outputs import SURE, UNSURE, equals, published, say, taught, total, twins
from tests.method_cases import small_method


def test_supervised():
    method = published("supervised")
    say(method.predictor.decoder.out, SURE)
    equals(total(method), 0.630912)


def test_mean_teacher_copy_paste():
    """L_seg(y) + L_seg(y'), all of it foreground."""
    equals(total(taught("mean_teacher_cp", SURE), "foreground"), 0.403841 + 0.403841)
    equals(total(taught("mean_teacher_cp", SURE), "foreground", progress=0.4), 2 * 0.403841)


def test_self_training():
    """L_seg(y); then of one batch, half of it labels and half of it background, as the teacher says.

    A quarter is foreground: CE = 3/4 ln 4 + 1/4 ln 4/3 = 1.111641, D = mean of 1 - 2 (1/4 3/4) / (1/16 + 3/4) = 7/13
    and 1 - 2 (3/4 1/4) / (9/16 + 1/4) = 7/13.
    """
    method = published("self_training")
    say(method.predictor.decoder.out, SURE)
    equals(total(method, progress=0.4), 0.630912)
    method.enter(0.5)
    say(method.predictor.decoder.out, SURE)
    say(method.teacher.decoder.out, UNSURE)
    equals(total(method), 0.5 * (1.111641 + 7 / 13))


def test_ua_mt():
    """L_seg + 0.1 sum |p_s - p_t|^2 / 2, of which the sum is 1/4 + 1/4; the entropy 0.562 is below ln 2 everywhere."""
    equals(total(taught("ua_mt")), 0.630912 + 0.1 * 0.25)


def test_urpc():
    """Two outputs of each kind: q = (1/2, 1/2), D_s = KL(q || p_s) = ln(4/3) / 2, |q - p_s|^2 / 2 = 1/16."""
    method = published("urpc")
    heads = [m for m in method.predictor.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 2]
    heads = [head for head in heads if head.bias is not None and head.bias.numel() == 2][-4:]
    for head, logits in zip(heads, (SURE, UNSURE, SURE, UNSURE), strict=True):
        say(head, logits)
    equals(total(method), 0.630912 + 0.1 * (1 / 16 + 0.143841))


def test_cps():
    """In 2D L_seg + L_seg + 0.1 (CE + CE), each CE ln 4; in 3D with halves of both CE."""
    equals(total(twins("cps")), 2 * 0.630912 + 0.1 * 2 * 1.386294)
    equals(total(twins("cps", 3), dims=3), 2 * 0.630912 + 0.1 * 1.386294)


@pytest.mark.parametrize(("dims", "weight", "whole"), [(2, 0.1, 1.0), (3, 1.0, 0.4)])
def test_ss_net(dims, weight, whole, monkeypatch):
    """L_seg + weight (L_DS + 0.1 (S_l + S_u)), with L_DS = 0.3 and S = 0.5 put in."""
    method = published("ss_net", dims)
    say(method.predictor.decoder.out, SURE)
    monkeypatch.setattr(method, "_smoothness", lambda images, logits: torch.tensor(0.3))
    monkeypatch.setattr(method.separation, "forward", lambda *args, **kwargs: torch.tensor(0.5))
    equals(total(method, dims=dims, progress=whole), 0.630912 + weight * (0.3 + 0.1 * (0.5 + 0.5)))


def test_co_bionet():
    """Critics that say 1/2 believe everywhere: 2 CE(u_i, u_j) + 0.01 ln 2, halved, and ln 2 for each of the critics.

    CE(u_i, u_j) = 3/4 ln 4 + 1/4 ln 4/3 = 1.111641.
    """
    method = twins("co_bionet")
    for critic in method.critics:
        say(critic.layers[-1], (0.0,))
    unlabelled = 0.5 * 2 * (2 * 1.111641 + 0.01 * 0.693147)
    equals(total(method), 2 * 0.630912 + unlabelled + 2 * 0.693147)
    equals(total(method, progress=0.4), 2 * 0.630912 + unlabelled + 2 * 0.693147)


def test_bcp():
    """L_seg(y; R) + 0.5 L_seg(pseudo-label; not R); at first, both regions of y with a weight of 1."""
    equals(total(taught("bcp"), "foreground"), 0.403841 + 0.5 * 0.957853)
    equals(total(taught("bcp"), "foreground", progress=0.2), 0.403841 + 0.403841)


# Both students: L_seg(y; R) + 0.5 L_seg(pseudo-label; not R), the pseudo-labels background.
PAIR = (0.403841 + 0.5 * 0.957853) + (1.075500 + 0.5 * 0.163841)
CROSS = 9 / 17 + (1 + 9 / 17) / 2  # D of SURE against background and of UNSURE against foreground


def test_abd():
    """(2 L_lab + L_unl + D + D) / 2 of each student."""
    method = twins("abd", cut_out=0.0)
    say(method.teacher.module.decoder.out, UNSURE)
    equals(total(method, "foreground"), PAIR + 0.5 * (CROSS + CROSS))
    equals(total(method, "foreground", progress=0.2), 0.403841 + 0.403841)


def test_beta_fft():
    """As ABD, with swapped views in place of the displaced ones; L_seg of labelled images, and 0.25 MSE, of 1/4."""
    method = twins("beta_fft", cut_out=0.0)
    say(method.teacher.module.decoder.out, UNSURE)
    equals(total(method, "foreground"), PAIR + 0.5 * (CROSS + CROSS) + 0.403841 + 0.25 * 0.25)


def test_adsh():
    """Probabilities of 3/4 are below the threshold 0.9: all logits are set to 0, so that CE = ln 2."""
    equals(total(twins("adsh")), 2 * 0.630912 + 0.1 * 0.5 * 2 * 0.693147)


@pytest.fixture
def four_fifths_background(monkeypatch):
    monkeypatch.setattr(
        "scripts.methods.parts.class_balance.labelled_shares", lambda files, classes: torch.tensor([0.8, 0.2])
    )


def ready(method):
    method.prepare([])
    return method


def test_crest(four_fifths_background):
    """Weights (1/4^(1/3), 1), which a batch of foreground moves by 1 % to (1, 0), and one of background to (0, 1).

    A weighted CE is divided by the sum of its weights, so that the cross terms are ln 4 each.
    """
    first = 0.5 * ((0.633661 * 1.386294 + 0.99 * 0.287682) / 1.623661 + (0.633661 * 5 / 9 + 0.99 * 5 / 17) / 2)
    second = 0.5 * ((0.623662 * 0.287682 + 1.386294) / 1.623662 + (0.623662 * 5 / 17 + 5 / 9) / 2)
    equals(total(ready(twins("crest"))), first + second + 0.1 * 0.5 * 2 * 1.386294)


def test_simis(four_fifths_background):
    """Weights 0.99 (2, 2) + 0.01 (0, 1.2), moved by 1 % to (2, 0) for foreground or (0, 2) for background."""
    first = 0.5 * ((1.9802 * 1.386294 + 1.97208 * 0.287682) / 3.95228 + (1.9802 * 5 / 9 + 1.97208 * 5 / 17) / 2)
    second = 0.5 * ((1.9602 * 0.287682 + 1.99208 * 1.386294) / 3.95228 + (1.9602 * 5 / 17 + 1.99208 * 5 / 9) / 2)
    equals(total(ready(twins("simis"))), first + second + 0.1 * 0.5 * 2 * 1.386294)


def test_basak():
    """L_seg + 0.1 (3/4)^1.5 ln 4 / 2; all voxels are kept where the rates have the power 0."""
    equals(total(taught("basak", power=0.0)), 0.630912 + 0.1 * 0.5 * 0.649519 * 1.386294)


def test_cld(four_fifths_background):
    """Weights (1, 4^(1/3)); the cross term is a plain mean of weighted values; all voxels are kept with the power 0."""
    supervised = 0.611751 + 0.774849
    equals(total(ready(twins("cld", power=0.0))), supervised + 0.1 * 0.5 * (1.386294 + 1.587401 * 1.386294))


def test_dhc(four_fifths_background):
    """The first network has Dice 0 and 2/3, and so the weights (2, 2/3); the second has (0, 2)."""
    first = 0.5 * ((2 * 1.386294 + 2 / 3 * 0.287682) / (2 + 2 / 3) + (2 * 5 / 9 + 2 / 3 * 5 / 17) / 2)
    second = 0.5 * (1.386294 + 2 * 5 / 9 / 2)
    equals(total(ready(twins("dhc"))), first + second + 0.1 * 0.5 * 2 * 1.386294)


def test_magicnet():
    """(CE + 3 D) / 4 + 0.1 ln 9 for a head that cannot tell 9 positions + 0.1 D against background."""
    method = taught("magicnet")
    say([m for m in method.location.modules() if isinstance(m, torch.nn.Linear)][-1], [0.0] * 9)
    equals(total(method), (0.836988 + 3 * 0.424837) / 4 + 0.1 * 2.197225 + 0.1 * 9 / 17)


def test_ga():
    """As MagicNet. The hardest tenth of the voxels is background, of CE ln 4; an absent class has D = p^2 = 9/16."""
    method = taught("ga")
    say([m for m in method.location.modules() if isinstance(m, torch.nn.Linear)][-1], [0.0] * 9)
    pseudo = 0.5 * (9 / 17 + 9 / 16)
    equals(total(method), (1.386294 + 3 * 0.424837) / 4 + 0.1 * 2.197225 + 0.1 * pseudo)


@pytest.mark.parametrize(("progress", "ramp", "contrast"), [(1.0, 1.0, 0.1 * 0.5), (20 / 161, 0.021603, 0.0)])
def test_tak(progress, ramp, contrast, monkeypatch):
    """As GA, and 0.1 L_con with L_con = 0.5 put in, but not in the first 21 of 161 epochs."""
    method = published("tak")
    say([m for m in method.location.modules() if isinstance(m, torch.nn.Linear)][-1], [0.0] * 9)
    sure, unsure = (torch.tensor(logits).view(1, 2, 1, 1) for logits in (SURE, UNSURE))
    monkeypatch.setattr(method, "logits", lambda maps: sure + 0.0 * maps[-1][:, :1])
    monkeypatch.setattr(method.teacher.module, "forward", lambda image: unsure + 0.0 * image)
    monkeypatch.setattr(method.contrast, "forward", lambda *given: torch.tensor(0.5))
    pseudo = 0.5 * (9 / 17 + 9 / 16)
    expected = (1.386294 + 3 * 0.424837) / 4 + 0.1 * 2.197225 + 0.1 * ramp * pseudo + contrast
    equals(total(method, progress=progress), expected)


def test_a_and_d():
    """psi is sure of background, logits (20, 0), and so is the pseudo-label whatever xi draws.

    xi has Dice 0 and 2/3, so psi the weights (2, 2/3): CE = (2/3 20) / (2 + 2/3) = 5, D = (2 1/3 + 2/3 1) / 2 = 2/3.
    """
    method = published("a_and_d")
    say(method.diffusion.decoder.out, SURE)
    say(method.weighted.out, (20.0, 0.0))
    say(method.predictor.decoder.out, SURE)
    equals(total(method), 0.630912 + 0.5 * (5 + 2 / 3) + 10 * 0.957853)


def test_skcdf():
    """The balanced heads see foreground only: elsewhere logits and labels are 0, and count.

    Labels: CE = (ln 2 + ln 4) / 2, D = mean of 1 - 1/2 / (13/32 + 1/2) and 1 - 1/4 / (5/32 + 1/2); L = 0.786692.
    Pseudo-labels of background: CE = ln 2, D = 1 - 1 / (1/4 + 1) = 1/5; L = 0.446574.
    """
    method = published("skcdf")
    method.rates.copy_(torch.tensor([0.0, 1.0]))
    say(method.labelled_decoder.out, SURE)
    say(method.labelled_balanced, UNSURE)
    say(method.predictor.decoder.out, SURE)
    say(method.balanced, UNSURE)
    equals(total(method), 0.630912 + 0.786692 + 10 * (0.403841 + 0.446574))


# Beyond the threshold: 1/40 of background and 39/40 of foreground.
SURER = (0.0, math.log(39.0))
# Against halves CE = (ln 40 + ln 40/39) / 2 = 1.857099, D = mean of 1 - 1/40 / (1/1600 + 1/2) and
# 1 - 39/40 / (1521/1600 + 1/2) = 0.638969; against foreground D = (1 + 1 - 39/20 / (1521/1600 + 1)) / 2 = 0.500160.
SURER_HALVES, SURER_FOREGROUND = 1.248034, 0.500160


@pytest.mark.parametrize("name", ["fixmatch", "unimatch"])
def test_fixmatch_and_unimatch(name):
    """Every view is all foreground: 1 D, or (1/4 + 1/4 + 1/2) D; probabilities of 3/4 do not count."""
    method = published(name)
    say(method.predictor.decoder.out, SURE)
    equals(total(method), 0.630912)
    say(method.predictor.decoder.out, SURER)
    equals(total(method), SURER_HALVES + SURER_FOREGROUND)
    equals(total(method, progress=0.0), SURER_HALVES + SURER_FOREGROUND)


def test_dca():
    """Three experts and D_A that say 1/4 of each of four classes, a quarter of the labels each.

    An expert: CE = ln 4, D = mean of 1 - 2 (1/4 3/4) / (1/16 + 3/4) and 1 - 2 (1/16) / (1/16 + 1/4); L = 0.977763.
    The stitched experts say background: L_seg of D_A = 0.957853, ten times.
    """
    network = {"stitching": "logits", "expert_levels": 4, "expert_channels": "all"}
    method = small_method("dca", num_classes=3, network=network, **METHODS["dca"].published)
    method.predictor.set_groups([[1], [2], [3]])
    for module in method.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == 4 and module.bias is not None:
            say(module, [0.0] * 4)
    label = torch.arange(32).div(8, rounding_mode="floor").view(1, 32, 1).expand(2, 32, 32).contiguous()
    loss = method(torch.rand(2, 1, 32, 32), label, torch.rand(2, 1, 32, 32), 1.0)["loss"]
    equals(loss.item(), 3 * 0.977763 + 10 * 0.957853)


def test_every_method_has_its_number():
    tested = " ".join(name for name in globals() if name.startswith("test_"))
    assert [name for name in METHODS if name.replace("_cp", "_copy_paste") not in tested] == []
