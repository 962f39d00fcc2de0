"""Variants: a name fixes options of a method, explicit options win, and `check` knows them without running anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.methods import METHODS, create_method, create_predictor
from scripts.methods.variants import VARIANTS
from tools.__main__ import main
from tools.common.paths import BUNDLES

CLASSES = 6
SIZES = np.array([100.0, 40.0, 20.0, 8.0, 0.6, 0.5])  # log-gaps 0.9, 0.7, 0.9, 2.6, 0.2
GROUPS = {  # by hand from SIZES
    "dca": ((1,), (2, 3, 4), (5, 6)),
    "dca_uniform": ((1, 2), (3, 4), (5, 6)),
    "dca_threshold": ((1, 2, 3), (4,), (5, 6)),
    "dca_sequential": ((1, 2, 3, 4), (5,), (6,)),
}
NETWORK = {"style": "unet", "spatial_dims": 2, "in_channels": 1, "num_classes": CLASSES, "width": 2}


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of SIZES in the labelled set, without label files."""
    monkeypatch.setattr("scripts.methods.dca.class_sizes", lambda *arguments: SIZES)


def build(name, preset="cpu", options=None, network_options=None):
    predictor = create_predictor(name, preset, network_options, **NETWORK)
    return create_method(name, predictor, preset, options)


@pytest.mark.parametrize("preset", ["cpu", "published"])
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_is_its_method_with_its_options(name, preset, sizes):
    variant = VARIANTS[name]
    method, plain = build(name, preset), build(variant.method, preset)
    assert type(method) is METHODS[variant.method]
    for option, value in variant.options.items():
        if option == "teacher_decay":
            assert (method.teacher is not None) == (value > 0)
        else:
            assert getattr(method, option) == value
    for option in ("label_split", "grouping", "unsup_weight", "pseudo_label", "mix", "jitter"):
        if option not in variant.options:
            assert getattr(method, option, None) == getattr(plain, option, None)
    for option in ("stitching", "residual"):
        default = getattr(plain.predictor, option, None)
        assert getattr(method.predictor, option, None) == variant.network_options.get(option, default)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_takes_a_step(name, sizes):
    torch.manual_seed(0)
    method = build(name).train()
    label = torch.randint(0, CLASSES + 1, (2, 32, 32))
    loss = method(torch.rand(2, 1, 32, 32), label, torch.rand(2, 1, 32, 32), 0.5)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in method.predictor.encoder.parameters())


def test_experts_have_the_shapes_that_the_variant_names():
    def shapes(name):
        predictor = create_predictor(name, **NETWORK)
        convs = [
            [m for m in e.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size[0] == 3]
            for e in predictor.experts
        ]
        return [len(c) for c in convs], [max(m.dilation[0] for m in c) for c in convs]

    (few, medium, many), dilations = shapes("dca")
    assert few < medium < many
    assert dilations == [2, 1, 1]
    assert shapes("dca_symmetric") == ([medium] * 3, [1] * 3)
    assert shapes("dca_depth") == ([few, medium, many], [1] * 3)
    assert shapes("dca_dilation") == ([medium] * 3, [2, 1, 1])


def test_without_dfam_the_aggregation_sees_nothing_of_the_experts():
    for name, with_dfam in (("dca", True), ("dca_no_dfam", False), ("dca_no_split", False)):
        keys = create_predictor(name, **NETWORK).state_dict()
        assert any("attend" in key for key in keys) == with_dfam, name


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_classes_are_divided_by_the_rule_that_the_variant_names(name, sizes):
    assert build(name).groups.groups == GROUPS[name]


def test_explicit_options_win_over_the_variants(sizes):
    method = build("dca_no_split", options={"label_split": True}, network_options={"stitching": "log_odds"})
    assert method.label_split
    assert method.predictor.stitching == "log_odds"
    assert not any("attend" in key for key in method.predictor.state_dict())  # what is not named stays the variant's


def test_an_explicit_prediction_wins_over_the_variants():
    assert create_predictor("dca_plus", **NETWORK, prediction=None).prediction == "mean"
    assert create_predictor("dca_plus", **NETWORK, prediction="stitched").prediction == "stitched"


def test_a_misspelt_variant_is_answered_with_the_closest_name():
    with pytest.raises(UserError, match="did you mean 'dca_no_dfam'"):
        create_predictor("dca_no_dfm", **NETWORK)


def test_check_accepts_variants_and_names_their_groups_and_mistakes(abdomen_phantom, capsys):
    train = str(BUNDLES / "dca_synapse" / "configs" / "train.json")
    words = [train, "--dataset_dir", str(abdomen_phantom), "--split_file", str(abdomen_phantom / "split.json")]
    groups = {}
    for name in ("dca", "dca_uniform", "dca_symmetric"):
        assert main(["check", *words, "--percent", "10", "--method", name]) == 0
        groups[name] = capsys.readouterr().out.splitlines()[-1]
    assert groups["dca"] == groups["dca_symmetric"] != groups["dca_uniform"]
    assert [len(group.split(",")) for group in groups["dca_uniform"].split(";")] == [5, 4, 4]
    assert (
        main(["check", *words, "--percent", "10", "--method", "dca_uniform", "--method_options::rmap", "linear"]) == 2
    )
    assert "expected an option of method dca_uniform, found 'rmap'" in capsys.readouterr().err


VOLUMES = NETWORK | {"style": "vnet", "spatial_dims": 3}


@pytest.mark.parametrize("data", [NETWORK, VOLUMES], ids=["slices", "volumes"])
def test_experts_of_dca_and_its_variants_are_half_as_fine_and_put_out_their_own_classes(data):
    for name in ("dca", *(name for name, variant in VARIANTS.items() if variant.method == "dca")):
        predictor = create_predictor(name, **data)
        assert predictor.residual == (data is VOLUMES)
        assert predictor.coarser == (1.0 if name in ("dca_dfam", "dca_plain") else 2.0)
        assert predictor.own_channels == (name not in ("dca_no_split", "dca_plain"))
        published = create_predictor(name, "published", **data)
        assert (published.residual, published.coarser) == (False, 1.0)
    assert not create_predictor("dca", **data, residual=False).residual
    assert create_predictor("dca", options={"expert_levels": 4}, **data).coarser == 1.0


def test_for_volumes_only_dca_with_dfam_and_dca_as_published_have_one():
    def levels(name, preset="cpu"):
        keys = create_predictor(name, preset, **VOLUMES).state_dict()
        return len({key.split(".")[2] for key in keys if "attend" in key})

    assert [levels("dca"), levels("dca_plus"), levels("dca", "published")] == [0, 0, 4]
    assert [levels("dca_dfam"), levels("dca_plain")] == [4, 4]


@pytest.mark.parametrize("data", [NETWORK, VOLUMES], ids=["slices", "volumes"])
def test_the_experts_of_dca_learn_from_pseudo_labels_unless_it_is_plain_or_as_published(data, sizes):
    def learns(name, preset="cpu"):
        return create_method(name, create_predictor(name, preset, **data), preset, label_files=["x"]).unsup_experts

    assert (learns("dca"), learns("dca", "published"), learns("dca_plain")) == (True, False, False)


def test_the_network_sees_other_intensities_in_slices_only_and_not_as_published(sizes):
    def jitter(name, data, preset="cpu"):
        return create_method(name, create_predictor(name, preset, **data), preset, label_files=["x"]).jitter

    assert [jitter("dca", NETWORK), jitter("dca", VOLUMES), jitter("dca", NETWORK, "published")] == [0.4, 0.0, 0.0]
    assert [jitter("dca_plain", NETWORK), jitter("dca_plus", VOLUMES)] == [0.0, 0.4]
