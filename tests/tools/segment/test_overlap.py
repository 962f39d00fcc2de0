"""Several cases under way in one process: they overlap, nothing else differs, and nothing is left half written."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.files import new_folder
from tests.bundle_commands import SYNAPSE, TINY_3D
from tests.bundle_runner import ENVIRONMENT, ROOT
from tools.segment.cases import Case
from tools.segment.options import Options
from tools.segment.request import Ready, Request
from tools.segment.workers import segment_here

SETTINGS = [f"{key.removeprefix('--')}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)]
CASES = [Case(name) for name in "abcde"]
PATIENCE = 10  # seconds that a test waits for what has to happen


@dataclass(frozen=True, kw_only=True)
class Stand(Request):
    """Loads no network. `segment` is that of a test, and runs while the folder of a case is half written."""

    within: Callable[[Case], str | None]
    overlap: int = 1
    under_way: list[str] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    ends: list[type[BaseException]] = field(default_factory=list)

    def ready(self, progress: bool = False) -> Ready:
        return Ready(self.segment, self.overlap)

    def segment(self, case: Case) -> str | None:
        with new_folder(self.output / case.name, replace=True):
            self.under_way.append(case.name)
            self.most.append(len(self.under_way))
            try:
                return self.within(case)
            except BaseException as error:
                self.ends.append(type(error))
                raise
            finally:
                self.under_way.remove(case.name)


@pytest.fixture
def stand(tmp_path: Path) -> Callable[..., Stand]:
    return lambda within, **keywords: Stand(
        source=tmp_path, output=tmp_path, bundle=tmp_path, within=within, **keywords
    )


def work_in_steps() -> None:
    """Takes too long, in many short steps, as a network works in windows.

    It sleeps and waits for no event: an exception from outside may find that between two of its locks, and end in an
    error of its own.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.01)
    raise AssertionError("nobody interrupted it")


def test_a_case_is_loaded_and_another_is_written_while_a_third_has_the_network(stand: Callable[..., Stand]) -> None:
    network, together = threading.Lock(), threading.Barrier(3)

    def within(case: Case) -> None:
        if case.name == "a":  # it has had the network and is written
            together.wait(PATIENCE)
        elif case.name == "b":
            with network:
                together.wait(PATIENCE)
        elif case.name == "c":
            together.wait(PATIENCE)
            with network:
                pass

    request, told = stand(within), []
    segment_here(CASES, request, lambda case, problem: told.append((case.name, problem)), overlap=3)
    assert told == [(case.name, None) for case in CASES]
    assert max(request.most) == 3  # no more are in memory


@pytest.mark.parametrize(("own", "asked", "most"), [(1, None, 1), (3, None, 3), (3, 1, 1), (1, 2, 2)])
def test_how_many_cases_overlap_is_the_devices_choice_unless_it_is_asked_for(
    stand: Callable[..., Stand], own: int, asked: int | None, most: int
) -> None:
    request = stand(lambda case: time.sleep(0.05), overlap=own)
    segment_here(CASES, request, lambda case, problem: None, overlap=asked)
    assert max(request.most) == most


def test_cases_are_told_in_their_order_whichever_is_over_first_and_a_bad_one_stops_no_other(
    stand: Callable[..., Stand],
) -> None:
    rest, told = threading.Event(), []

    def within(case: Case) -> str | None:
        if case.name == "a":
            assert rest.wait(PATIENCE)
        if case.name == "e":
            rest.set()
        return "it is broken" if case.name == "b" else None

    segment_here(CASES, stand(within), lambda case, problem: told.append((case.name, problem)), overlap=3)
    assert told == [("a", None), ("b", "it is broken"), ("c", None), ("d", None), ("e", None)]


def test_an_interruption_ends_the_cases_under_way_starts_no_other_and_leaves_none_half_written(
    stand: Callable[..., Stand], tmp_path: Path
) -> None:
    begun = threading.Barrier(3)

    def within(case: Case) -> None:
        if case.name in "abc":
            begun.wait(PATIENCE)
        if case.name != "a":
            work_in_steps()

    def stop(case: Case, problem: str | None) -> None:
        raise KeyboardInterrupt

    request = stand(within)
    with pytest.raises(KeyboardInterrupt):
        segment_here(CASES, request, stop, overlap=3)
    assert request.under_way == []
    assert set(request.ends) == {KeyboardInterrupt}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


ENDLESS = """
import os, sys, time
from pathlib import Path
from tests.tools.segment.test_overlap import CASES, Stand
from tools.common.stopping import ends_like_an_interrupt
from tools.segment.workers import segment_here

def within(case):
    os.write(1, b"begun\\n")  # a whole line, whatever the other thread writes
    while True:
        time.sleep(0.01)

output = Path(sys.argv[1])
try:
    with ends_like_an_interrupt():
        segment_here(CASES, Stand(source=output, output=output, bundle=output, within=within), print, overlap=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_threads_and_leaves_nothing_half_written(number: signal.Signals, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", ENDLESS, str(output)]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT / 'bundles'}:{ROOT}"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert [process.stdout.readline().strip() for _ in range(2)] == ["begun", "begun"]
            assert len(list(output.iterdir())) == 2
            process.send_signal(number)
            assert process.wait(PATIENCE) == 130
        finally:
            process.kill()
    assert list(output.iterdir()) == []


def test_overlapping_gives_what_one_after_the_other_gives(
    synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path: Path
) -> None:
    source, told = tmp_path / "in", []
    source.mkdir()
    for image in sorted((abdomen_phantom / "images").glob("*.nii.gz"))[:4]:
        (source / image.name).symlink_to(image)
    (source / "bad.nii.gz").write_bytes(b"no image")
    options = Options(model=synapse_run[0] / "models", probabilities=True, disagreement=True, settings=SETTINGS)
    outputs = [tmp_path / "one", tmp_path / "three"]
    for output, overlap in zip(outputs, (None, 3), strict=True):
        request = Request(source=source, output=output, bundle=SYNAPSE, options=options)
        outcomes: list[tuple[str, str | None]] = []
        segment_here(request.cases(), request, lambda c, p, o=outcomes: o.append((c.name, p)), overlap=overlap)
        told.append(outcomes)
    assert told[0] == told[1]
    assert [bool(problem) for _, problem in told[0]] == [False] * 4 + [True]
    files = [{path.relative_to(output) for path in output.rglob("*")} for output in outputs]
    assert files[0] == files[1]
    assert len(files[0]) == 4 * 6
    for name in files[0]:
        if (outputs[0] / name).is_file():
            assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes(), name
