"""Equal recipes make the same of the same input: whatever changes the result changes the recipe."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, CropForegroundd, Lambdad, RandFlipd, ScaleIntensityRanged, Spacingd
from monai.utils import GridSampleMode

from scripts.data import recipes
from scripts.data.recipes import describe, digest, recipe
from scripts.data.transforms import LoadCased, PadToPatchd
from scripts.errors import UserError


def above(limit: float) -> Callable[[Any], Any]:
    """A function that knows its limit from its closure alone."""
    return lambda image: image > limit


def made(
    classes: int = 3,
    spacing: float = 2.0,
    window: float = 275.0,
    limit: float = 0.0,
    size: int = 16,
    mode: Any = "nearest",
) -> Compose:
    return Compose(
        [
            LoadCased(classes),
            Spacingd("image", (spacing, 1, 1), mode=mode, dtype=torch.float32),
            ScaleIntensityRanged("image", -125, window, 0, 1),
            CropForegroundd("image", "image", select_fn=above(limit)),
            PadToPatchd("image", (size, size, size)),
        ]
    )


def test_a_recipe_is_plain_and_the_same_every_time() -> None:
    first, again = recipe(made()), recipe(made())
    assert digest(first) == digest(again) == digest(json.loads(json.dumps(first)))
    assert " at 0x" not in json.dumps(first)
    assert first["versions"]["torch"] == importlib.metadata.version("torch")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 4},
        {"spacing": 2.1},
        {"window": 276.0},
        {"limit": 0.1},
        {"size": 32},
        {"mode": GridSampleMode.BILINEAR},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_recipe(change: dict[str, Any]) -> None:
    assert digest(recipe(made(**change))) != digest(recipe(made()))


def test_running_the_transforms_does_not_change_the_recipe(abdomen_phantom: Path) -> None:
    transform = made(13)
    before = digest(recipe(transform))
    transform({"image": str(next((abdomen_phantom / "images").iterdir()))})
    assert digest(recipe(transform)) == before


def test_the_order_of_the_transforms_is_part_of_it() -> None:
    transform = made()
    turned = Compose(list(reversed(transform.transforms)))
    assert digest(recipe(turned)) != digest(recipe(transform))


def test_the_random_state_is_not() -> None:
    flips = [RandFlipd("image", prob=0.5), RandFlipd("image", prob=0.5).set_random_state(3)]
    assert describe(flips[0]) == describe(flips[1])
    assert describe(RandFlipd("image", prob=0.6)) != describe(flips[0])


def test_other_versions_of_packages_are_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(recipe(made()))
    monkeypatch.setattr(recipes, "_version", lambda name: "9.9" if name == "monai" else None)
    assert digest(recipe(made())) != before


DIFFERENT: list[tuple[Any, Any]] = [
    (lambda x: x + 1, lambda x: x + 2),
    (lambda x: x.min(), lambda x: x.max()),
    (lambda x, y=1: x, lambda x, y=2: x),
    (lambda x, *, y=1: x, lambda x, *, y=2: x),
    (lambda x: [i + 1 for i in x], lambda x: [i + 2 for i in x]),
    (above(1), above(2)),
    (functools.partial(int, base=2), functools.partial(int, base=8)),
    (np.array([1, 2]), np.array([1, 3])),
    (np.array([1.0]), np.array([1.0], np.float32)),
    (np.array([1, 2]), np.array([[1, 2]])),
    (torch.float16, torch.float32),
    (np.float32, np.float64),
    (1, True),
    (1, 1.0),
    (1, "1"),
    (None, "None"),
    (float("nan"), 0.0),
    ({"a": 1}, {"a": 2}),
    ({1, 2}, {1, 3}),
    (b"a", "a"),
    (np.sin, np.cos),
    (abs, len),
    (above, made),
    (torch.relu, torch.sigmoid),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=[str(i) for i in range(len(DIFFERENT))])
def test_different_values_are_told_apart(one: Any, other: Any) -> None:
    assert json.dumps(describe(one)) == json.dumps(describe(one))
    assert json.dumps(describe(one)) != json.dumps(describe(other))


def test_changed_code_of_a_transform_or_of_its_base_is_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "own_base.py").write_text("class Base:\n    def __call__(self, item):\n        return item\n")
    (tmp_path / "own_transform.py").write_text("from own_base import Base\nclass Own(Base):\n    pass\n")
    own = importlib.import_module("own_transform").Own()
    found = [digest(recipe(own))]
    for name in ("own_base", "own_transform"):
        file = tmp_path / f"{name}.py"
        file.write_text(file.read_text() + "# changed\n")
        recipes._source.cache_clear()
        found.append(digest(recipe(own)))
    recipes._source.cache_clear()
    assert len(set(found)) == 3


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(UserError, match=r"cache_dir: expected transforms of plain settings, found a builtins\.object"):
        recipe(Compose([Lambdad("image", functools.partial(print, object()))]))
