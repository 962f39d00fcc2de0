"""From the disagreement on each structure to that on the whole image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.group_names import GROUP_NAMES
from tests.bundle_commands import SYNAPSE, TINY_3D
from tools.segment.disagreement import WEIGHTS, by_group, differences, overall
from tools.segment.options import Options
from tools.segment.segmenter import Segmenter

SETTINGS = [f"{key.removeprefix('--')}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)]
GROUPS = {1: "head", 2: "medium", 3: "tail", 4: "tail"}
NAMES = {1: "liver", 2: "aorta", 3: "right adrenal", 4: "left adrenal"}


@pytest.mark.parametrize("kind", [np.uint8, np.float32])  # MONAI's AsDiscrete makes floats
@pytest.mark.parametrize("times", [1, 10])  # more slices than are compared at once
def test_difference_of_two_label_maps_is_one_minus_dice_of_what_either_holds(kind: type, times: int) -> None:
    first = np.array([[0, 1, 1, 1], [2, 2, 0, 0]] * times, kind)
    second = np.array([[0, 0, 1, 1], [0, 0, 4, 0]] * times, kind)
    found = differences(first, second, 4)
    assert found == {1: pytest.approx(1 - 2 * 2 / (3 + 2)), 2: 1, 4: 1}


def test_structures_that_neither_prediction_sees_have_no_part() -> None:
    organs = by_group({1: 0.1, 3: 0.7}, GROUPS, NAMES)
    assert organs == {"head": {"liver": 0.1}, "tail": {"right adrenal": 0.7}}
    assert overall(organs) == pytest.approx((1 * 0.1 + 3 * 0.7) / 4)


def test_weights_are_those_of_the_groups() -> None:
    organs = by_group({1: 0.1, 2: 0.4, 3: 0.7, 4: 0.2}, GROUPS, NAMES)
    assert overall(organs) == pytest.approx((1 * 0.1 + 2 * 0.4 + 3 * (0.7 + 0.2)) / 9)
    assert overall(organs, {"head": 1, "medium": 1, "tail": 1}) == pytest.approx((0.1 + 0.4 + 0.7 + 0.2) / 4)
    assert overall(organs, {"head": 0, "medium": 0, "tail": 2}) == pytest.approx(0.45)


@pytest.mark.parametrize("names", GROUP_NAMES.values())
def test_smaller_classes_weigh_more_however_many_groups_there_are(names: tuple[str, ...]) -> None:
    weights = [WEIGHTS[name] for name in names]
    assert weights == sorted(set(weights))
    assert [overall({name: {"organ": 1.0}, "head": {"other": 0.0}}) for name in names[1:]] == [
        pytest.approx(weight / (weight + 1)) for weight in weights[1:]
    ]


def test_an_image_in_which_nothing_of_weight_is_seen_has_to_be_looked_at() -> None:
    assert overall({}) == 1
    assert overall({"head": {"liver": 0.1}}, {"head": 0, "medium": 0, "tail": 1}) == 1


def test_the_groups_of_the_classes_are_those_that_the_training_found(synapse_run: tuple[Path, str]) -> None:
    segmenter = Segmenter(SYNAPSE, Options(model=synapse_run[0] / "models", settings=SETTINGS))
    found = json.loads((synapse_run[0] / "models" / "model.json").read_text())["found"]["grouping"]
    expected = {c: name for name, group in zip(found["names"], found["groups"], strict=True) for c in group}
    assert segmenter.groups == expected
    assert Segmenter(SYNAPSE, Options(model=synapse_run[0] / "models", fast=True, settings=SETTINGS)).groups == {}


def test_fast_takes_larger_windows_that_overlap_less(synapse_run: tuple[Path, str]) -> None:
    inferers = [
        Segmenter(SYNAPSE, Options(model=synapse_run[0] / "models", fast=fast, settings=SETTINGS)).inferer
        for fast in (False, True)
    ]
    assert [list(inferer.roi_size) for inferer in inferers] == [[16, 16, 16], [20, 20, 20]]
    assert [inferer.overlap for inferer in inferers] == [0.5, 0.1]
