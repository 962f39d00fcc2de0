"""Fixtures for the verbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.acdc_download import add_patient
from tests.tools.fake_gpus import Machine
from tests.tools.trainings import SMALL, Compare, Trainings, stand_in
from tools.__main__ import main

Verb = Callable[..., tuple[int, str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A download of three patients, one of them patient090, whose first frame is not frame 01."""
    folder = tmp_path / "acdc"
    for name, frames in (("patient001", (1, 12)), ("patient002", (1, 9)), ("patient090", (4, 11))):
        add_patient(folder, name, frames)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder that the verb writes to."""
    return tmp_path / "out"


@pytest.fixture
def verb(output: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb that writes to `output`: the exit code, and what it printed, stderr after an error."""

    def run(*words: object) -> tuple[int, str]:
        code = main([*map(str, words), "--output", str(output)])
        printed = capsys.readouterr()
        return code, printed.err if code else printed.out

    return run


@pytest.fixture
def prepare(request: pytest.FixtureRequest, verb: Verb) -> Verb:
    """Runs the verb on the module's LAYOUT (else acdc); see `verb`."""
    layout = getattr(request.module, "LAYOUT", "acdc")

    def run(source: Path, *options: str) -> tuple[int, str]:
        return verb("prepare", layout, "--source", source, *options)

    return run


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """No command of a comparison is run: this stands in for them."""
    return stand_in(monkeypatch, Trainings())


@pytest.fixture
def compare(heart_phantom: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Runs the verb on the phantom: the exit code, and what it printed on stdout and stderr."""

    def run(
        methods: str, *words: object, data: Path = heart_phantom, steps: int | None = 6, settings: tuple[str, ...] = ()
    ) -> tuple[int, str, str]:
        given = ["--bundle", "dca_acdc", "--dataset_dir", data, "--output", output, "--percent", 50]
        given += [] if steps is None else ["--steps", steps]
        given += ["--set", f"split_file={data / 'split.json'}", *SMALL, *settings]
        code = main(["compare", "--methods", methods, *map(str, given), *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def table(output: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the verb on `output`: what it printed, on stderr if the exit code is to be another than 0."""

    def run(*words: str, code: int = 0) -> str:
        assert main(["table", str(output), *words]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose GPUs the test chooses."""
    return Machine(tmp_path, monkeypatch)
