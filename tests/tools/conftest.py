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
def output(tmp_path: Path) -> Path:
    """The folder that `prepare` writes to."""
    return tmp_path / "out"


@pytest.fixture
def prepare(
    request: pytest.FixtureRequest, output: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the verb on the module's LAYOUT (else acdc): the exit code, and what it printed, stderr after an error."""
    layout = getattr(request.module, "LAYOUT", "acdc")

    def run(source: Path, *options: str) -> tuple[int, str]:
        code = main(["prepare", layout, "--source", str(source), "--output", str(output), *options])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return run
