import logging

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.losses import segmentation_loss
from scripts.methods import METHODS, create_method, create_predictor, learning_rate, published_options
from scripts.methods.base import linear_ramp, sigmoid_ramp
from scripts.networks import SegmentationNet


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# Ramps


def test_sigmoid_ramp_has_the_published_values():
    assert [round(sigmoid_ramp(t).item(), 4) for t in (0.0, 0.5, 1.0)] == [0.0067, 0.2865, 1.0]


@pytest.mark.parametrize("ramp", [sigmoid_ramp, linear_ramp])
def test_ramp_is_up_after_its_length(ramp):
    assert ramp(0.2, 0.4) == ramp(0.5, 1.0) < 1
    assert ramp(0.4, 0.4) == ramp(0.9, 0.4) == ramp(0.0, 0.0) == 1


def test_linear_ramp_starts_at_zero():
    assert [linear_ramp(t) for t in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]


# By name


def predictor(preset="cpu", method="dca", num_classes=3, **options):
    return create_predictor(
        method, preset, options, style="unet", spatial_dims=2, in_channels=1, num_classes=num_classes, width=2
    )


def label_files(tmp_path, *counts):
    """Label files with as many voxels of the classes 1.. as each tuple says."""
    paths = []
    for i, count in enumerate(counts):
        volume = np.zeros(1000, np.uint8)
        ids = np.repeat(np.arange(1, len(count) + 1), count)
        volume[: len(ids)] = ids
        paths.append(str(tmp_path / f"label{i}.nii.gz"))
        nib.save(nib.Nifti1Image(volume.reshape(10, 10, 10), np.eye(4)), paths[-1])
    return paths


def test_published_preset_is_the_published_setting(tmp_path):
    net = predictor("published")
    method = create_method("dca", net, "published", label_files=label_files(tmp_path, (50, 30, 90)))
    setting = {
        "grouping": "top2", "label_split": True, "expert_dice": "own",
        "supervise_aggregation": False, "unsup_gradient": "encoder", "pseudo_label": "stitched",
        "unsup_weight": 10.0, "ramp": "sigmoid", "ramp_length": 1.0,
    }  # fmt: skip
    assert {name: getattr(method, name) for name in setting} == setting
    assert (net.stitching, net.prediction, net.aggregation.dfams[0].projected) == ("logits", "aggregated", False)
    assert [expert.levels[0].convs[0][0].dilation[0] for expert in net.experts] == [2, 1, 1]


def test_published_options_of_volumes_are_beyond_those_of_slices():
    assert published_options(METHODS["bcp"], 2) == {}
    assert published_options(METHODS["bcp"], 3) == {"pretraining": 2_000 / 17_000}
    assert published_options(METHODS["ua_mt"], 3) == {"as_released": True}
    net = create_predictor("bcp", style="vnet", spatial_dims=3, in_channels=1, num_classes=3, width=2)
    assert create_method("bcp", net, "published").pretraining == 2_000 / 17_000
    assert create_method("bcp", net).pretraining == 0.25


@pytest.mark.parametrize(
    ("method", "rates"),
    [("dhc", (0.01, 0.03)), ("skcdf", (0.01, 0.3)), ("magicnet", (0.01, 7.0)), ("dca_plus", (7.0, 7.0))],
)
def test_published_learning_rate_is_that_of_the_release_and_else_the_bundles(method, rates):
    assert tuple(learning_rate(method, "published", dims, 7.0) for dims in (2, 3)) == rates
    assert learning_rate(method, "cpu", 2, 7.0) == 7.0


def test_options_replace_those_of_the_preset(tmp_path):
    assert predictor("published", stitching="probability", dfam="none").stitching == "probability"
    files = label_files(tmp_path, (50, 30, 90))
    method = create_method("dca", predictor(), "published", {"unsup_weight": 2.0}, files)
    assert (method.unsup_weight, method.pseudo_label) == (2.0, "stitched")


def test_common_arguments_that_are_none_are_left_to_the_network():
    common = {"style": "unet", "spatial_dims": 2, "in_channels": 1, "num_classes": 3, "width": 2, "prediction": None}
    assert create_predictor("dca", **common).prediction == "aggregated"
    assert type(create_predictor("supervised", **common)) is SegmentationNet


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_predictor("dcaa"), r"^method: expected a known name, found 'dcaa'; did you mean 'dca'\?$"),
        (lambda: create_method("superwised", torch.nn.Identity()), r"did you mean 'supervised'\?$"),
        (
            lambda: predictor(predicton="mean"),
            r"^network of method dca: .* found 'predicton'; did you mean 'prediction'\?$",
        ),
        (
            lambda: create_method("dca", predictor(), options={"unsup_wieght": 1.0}),
            r"^method dca: expected a known option, found 'unsup_wieght'; did you mean 'unsup_weight'\?$",
        ),
    ],
)
def test_unknown_names_are_told_with_the_nearest_known_one(call, message):
    with pytest.raises(UserError, match=message):
        call()


# Divide


def test_dca_groups_the_classes_of_the_label_files_and_logs_them(tmp_path, caplog):
    files = label_files(tmp_path, (3, 200, 20, 150, 1), (2, 200, 20, 150, 2))
    net = predictor(num_classes=5)
    with caplog.at_level(logging.INFO, logger="scripts"):
        create_method("dca", net, label_files=files)
    assert net.owner.tolist() == [2, 0, 1, 0, 2]
    for line in ("head: 2, 4", "medium: 3", "tail: 1, 5"):
        assert line in caplog.text


def test_manual_groups_are_taken(tmp_path):
    net = predictor()
    options = {"grouping": "manual", "manual_groups": [[3], [1], [2]]}
    create_method("dca", net, options=options, label_files=label_files(tmp_path, (50, 30, 90)))
    assert net.owner.tolist() == [1, 2, 0]


def test_two_classes_have_two_experts(tmp_path):
    net = predictor(num_classes=2)
    create_method("dca", net, label_files=label_files(tmp_path, (5, 30)))
    assert net.owner.tolist() == [1, 0]


# Supervised


def test_supervised_is_the_segmentation_loss_of_the_labelled_images():
    net = predictor(method="supervised", num_classes=5)
    method = create_method("supervised", net).eval()
    image, label = torch.randn(2, 1, 21, 32), torch.arange(2 * 21 * 32).remainder(6).view(2, 21, 32)
    losses = method(image, label, None, 0.5)
    assert losses.keys() == {"loss"}
    assert losses["loss"] == segmentation_loss(net(image), label)
    assert not method.unlabelled
    smooth = create_method("supervised", net, options={"absent": "smooth"}).eval()
    assert smooth(image, label * 0, None, 0.5)["loss"] == segmentation_loss(net(image), label * 0, absent="smooth")


@pytest.mark.parametrize("word", ["false", "False", False])
def test_switch_of_a_method_may_be_a_word_of_the_command_line(tmp_path, word):
    files = label_files(tmp_path, (50, 30, 90))
    method = create_method("dca", predictor(), options={"supervise_aggregation": word}, label_files=files)
    assert method.supervise_aggregation is False


def test_switch_of_a_method_with_another_value_is_refused():
    with pytest.raises(UserError, match=r"^method dca, label_split: expected true or false, found 'no'$"):
        create_method("dca", predictor(), options={"label_split": "no"})
