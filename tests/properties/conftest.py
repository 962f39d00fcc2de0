"""Fixtures of the properties."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from scripts.methods import create_predictor


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """Makes an empty folder, anew for each example."""

    def make() -> Path:
        shutil.rmtree(tmp_path / "example", ignore_errors=True)
        (tmp_path / "example").mkdir()
        return tmp_path / "example"

    return make


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bundle that is loaded adds its folder to the path; not for other tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """Makes the folder of an untrained model, which `bands` stands in for."""

    @cache
    def make(spatial_dims: int, classes: int) -> Path:
        style, folder = {2: "unet", 3: "vnet"}[spatial_dims], tmp_path_factory.mktemp("model")
        common = {"spatial_dims": spatial_dims, "in_channels": 1, "num_classes": classes, "width": 1}
        torch.save(create_predictor("supervised", style=style, **common).state_dict(), folder / "model.pt")
        return folder

    return make
