"""Fixtures for `prepare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.acdc_download import add_patient
from tools.__main__ import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A download of three patients, one of them patient090, whose first frame is not frame 01."""
    folder = tmp_path / "acdc"
    for name, frames in (("patient001", (1, 12)), ("patient002", (1, 9)), ("patient090", (4, 11))):
        add_patient(folder, name, frames)
    return folder


@pytest.fixture
def prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the verb; the exit code and what it printed (out after success, err after an error)."""

    def run(source: Path, *options: str) -> tuple[int, str]:
        code = main(["prepare", "acdc", "--source", str(source), "--output", str(tmp_path / "out"), *options])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return run
