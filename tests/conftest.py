"""Fixtures that several test modules share. Phantoms are made once per session; a test must not write into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.phantom import make_phantom


@pytest.fixture(scope="session")
def heart_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small cine heart data set: 4 training patients (2 labelled), 2 validation, 2 test; 64 x 64 x 6."""
    folder = tmp_path_factory.mktemp("phantoms") / "heart"
    make_phantom("heart", folder, cases=4, labelled=2, validation=2, test=2, size=(64, 64, 6), percent=50)
    return folder


@pytest.fixture(scope="session")
def abdomen_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small abdominal CT data set: 3 training patients (2 labelled), 1 validation, 1 test; 64 x 64 x 48."""
    folder = tmp_path_factory.mktemp("phantoms") / "abdomen"
    make_phantom("abdomen", folder, cases=3, labelled=2, validation=1, test=1, size=(64, 64, 48))
    return folder
