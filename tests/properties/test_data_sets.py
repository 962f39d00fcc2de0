"""What `prepare` and `doctor` say of scans is true of them, whatever the grid and the storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from tests.properties.cases import Case, cases, pairs, prepared
from tests.properties.profiles import costly
from tests.properties.scans import Storage, Turn, class_counts, class_of, images, labels, turns
from tools.doctor.examine import examine


@costly()
@given(pairs, class_counts)
def test_the_datalist_and_the_doctor_say_of_a_scan_what_it_is(
    folder: Callable[[], Path], pair: tuple[Case, Case], classes: int
) -> None:
    root = folder()
    files = [case.save(root, name, classes) for case, name in zip(pair, "ab", strict=True)]
    content = prepared(root, files, classes)
    findings, fingerprint = examine(root / "datalist.json", None, None, 1, lambda: None)
    assert [one for one in findings if one.kind in ("datalist", "image", "label", "two spacings", "two places")] == []
    millilitres = []
    for case, record in zip(pair, content["cases"], strict=True):
        grid = case.ramp.grid
        assert tuple(record["shape"]) == grid.shape
        assert record["spacing"] == pytest.approx(grid.spacing, rel=1e-4)
        counts = np.bincount(class_of(case.ramp.at(grid.world()), classes).ravel(), minlength=classes + 1)
        assert [record["voxels"][str(c)] for c in range(1, classes + 1)] == counts[1:].tolist()
        millilitres.append(counts * np.prod(grid.spacing) / 1000)
    for c in range(1, classes + 1):
        found = fingerprint["classes"][f"class {c}"]
        of_class = [one[c] for one in millilitres if one[c]]
        assert found["cases"] == len(of_class)
        if of_class:
            assert [found[f"ml, {key}"] for key in ("smallest", "largest")] == pytest.approx(
                [min(of_class), max(of_class)], rel=1e-3
            )


@costly()
@given(cases(), turns, images, labels, class_counts)
def test_the_doctor_knows_a_scan_again_however_it_is_stored(
    folder: Callable[[], Path], case: Case, turn: Turn, image: Storage, label: Storage, classes: int
) -> None:
    root = folder()
    other = replace(case, ramp=replace(case.ramp, grid=case.ramp.grid.turned(turn)), image=image, label=label)
    prepared(root, [case.save(root, "a", classes), other.save(root, "b", classes)], classes)
    findings, _ = examine(root / "datalist.json", None, None, 1, lambda: None)
    copies = [one.found.startswith("the same image in") for one in findings if one.kind == "duplicate image"]
    assert copies == [True]
