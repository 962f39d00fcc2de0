"""What is decided for which data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tools.new.fingerprint import ClassSize, Fingerprint
from tools.new.planning import Plan, plan, smaller

ORGANS = {1: ClassSize(4, 60_000.0, 1500.0, 0.9), 2: ClassSize(4, 120.0, 3.0, 0.1)}
CT = Fingerprint((512, 512, 140), (0.76, 0.76, 3.0), 2, 24, 4, ORGANS, (-120.4, 267.8), ())
MR = replace(CT, shape=(216.0, 256.0, 9.0), spacing=(1.5, 1.5, 10.0), foreground=(3.0, 900.0))


def planned(found: Fingerprint, modality: str = "CT", **options: Any) -> Plan:
    return plan(found, modality, ("0",), "cpu", **options)


def decided(found: Plan, what: str) -> str:
    (value,) = [one.value for one in found.decisions if one.what == what]
    return value


@pytest.mark.parametrize(
    ("shape", "spacing", "slices", "dims"),
    [
        ((512, 512, 140), (0.76, 0.76, 3.0), 2, 3),
        ((216, 256, 9), (1.5, 1.5, 10.0), 2, 2),  # too few slices to fill a patch
        ((256, 256, 40), (1.0, 1.0, 6.0), 2, 2),  # so far apart that a neighbour tells little
        ((256, 256, 40), (1.0, 1.0, 4.0), 2, 3),
        ((9, 256, 216), (10.0, 1.5, 1.5), 0, 2),  # sagittal
        ((200, 200, 200), (1.0, 1.0, 1.0), None, 3),
    ],
)
def test_slices_are_for_few_or_distant_ones(shape: Any, spacing: Any, slices: int | None, dims: int) -> None:
    found = replace(CT, shape=shape, spacing=spacing, slices=slices)
    assert planned(found).dims == dims
    assert planned(found, dims=5 - dims).dims == 5 - dims  # as asked for


def test_a_patch_sees_half_of_a_scan_and_no_axis_is_finer_than_the_scans() -> None:
    found = planned(CT)
    for mm, n, own, extent in zip(found.preset["spacing"], found.size, CT.spacing, CT.extent, strict=True):
        assert mm >= own
        assert n % 16 == 0
        assert n * mm >= 0.49 * extent
    assert max(found.size) == 64


def test_the_smallest_class_keeps_its_voxels() -> None:
    tiny = replace(CT, classes={**ORGANS, 2: ClassSize(4, 120.0, 0.4, 0.1)})
    voxel = 1.0
    for mm in planned(tiny).preset["spacing"]:
        voxel *= mm
    assert 400 / voxel >= 60
    assert planned(tiny).preset["spacing"] < planned(CT).preset["spacing"]
    dust = replace(CT, classes={2: ClassSize(1, 2.0, 0.003, 1.0)})
    assert planned(dust).preset["spacing"] == [0.76, 0.76, 3.0]  # not finer than the scans


def test_a_short_axis_has_a_short_patch() -> None:
    assert planned(replace(CT, shape=(300.0, 300.0, 20.0))).size == (64, 64, 32)


def test_slices_become_squares_unless_they_are_long() -> None:
    assert planned(MR, "MR").size == (128, 128)
    assert planned(replace(MR, shape=(96.0, 80.0, 9.0)), "MR").size == (96, 96)
    assert planned(replace(MR, shape=(256.0, 128.0, 9.0)), "MR").size == (128, 64)
    assert planned(replace(MR, shape=(9.0, 128.0, 256.0), spacing=(10.0, 1.5, 1.5), slices=0), "MR").size == (64, 128)


def test_ct_has_a_window_of_what_lies_under_the_labels_and_mr_percentiles() -> None:
    assert planned(CT).settings["window"] == [-120.0, 268.0]
    assert planned(CT).settings["scaling"] == "window"
    assert planned(MR, "MR").settings["scaling"] == "percentiles"
    assert planned(CT).settings["crop_foreground"] is True
    assert planned(CT, "MR").settings["crop_foreground"] is False


def test_nothing_is_mirrored_where_a_class_has_a_side() -> None:
    sided = ("left kidney",)
    assert planned(CT).settings["flip_probability"] == 0.5
    assert planned(replace(CT, sided=sided)).settings["flip_probability"] == 0
    assert planned(MR, "MR").settings["flips"] is True
    assert planned(replace(MR, sided=sided), "MR").settings == planned(MR, "MR").settings | {
        "flips": False,
        "orientation": "RAS",
    }
    assert "left kidney" in {one.what: one.why for one in planned(replace(CT, sided=sided)).decisions}["flips"]


def test_a_plan_shrinks_until_nothing_smaller_can_be_trained() -> None:
    edges, found = [64], planned(CT)
    while (edge := smaller(found)) is not None:
        found = planned(CT, largest=edge)
        edges.append(max(found.size))
    assert edges == [64, 48, 32]


def test_every_decision_says_its_value_its_reason_and_what_changes_it() -> None:
    for found in (planned(CT), planned(MR, "MR")):
        assert len(found.decisions) >= 7
        assert all(one.what and one.value and one.why and one.override for one in found.decisions)
    assert decided(planned(CT), "spacing").endswith(" mm")
