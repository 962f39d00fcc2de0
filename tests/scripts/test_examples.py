"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tools.common.paths import BUNDLES

MODULES = [
    ".".join(path.relative_to(BUNDLES).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((BUNDLES / "scripts").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.fixture
def small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples read, in the current folder: a datalist of two patients, its split, an image and its label."""
    cases = [{"id": name, "patient": name, "image": f"{name}.nii.gz", "label": f"{name}_gt.nii.gz"} for name in "ab"]
    (tmp_path / "datalist.json").write_text(json.dumps({"cases": cases}))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a", "b"], "validation": []}))
    label = np.arange(8 * 8 * 4).reshape(8, 8, 4) % 3
    for name, values in (("image", label * 100.0), ("label", label)):
        nib.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0  # doctest prints what it expected and found


def test_what_users_build_by_hand_has_an_example() -> None:
    built = ("data.datalists", "data.streams", "data.transforms", "grouping", "inference.native_grid", "methods")
    assert {f"scripts.{name}" for name in (*built, "networks.dca", "scoring.metrics")} <= set(MODULES)
