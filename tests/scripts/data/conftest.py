"""The datalist and the split that the tests of both change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.split_files import PATIENTS, PUBLISHED, case, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 training patients (two published as 10 %), two for validation, one for test; a case each. No file exists."""
    patients = [*PATIENTS, "v1", "v2", "t1"]
    write(tmp_path / "datalist.json", {"cases": [case(patient) for patient in patients]})
    write(
        tmp_path / "split.json",
        {"train": PATIENTS, "validation": ["v1", "v2"], "test": ["t1"], "labelled": {"10": PUBLISHED}},
    )
    return tmp_path
