"""Several processes segment every case once, and whatever becomes of one of them, the others go on and none is left."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.errors import UserError
from tests.tools.fake_gpus import Machine
from tools.common import gpus
from tools.common.gpus import gpus_for
from tools.segment.cases import Case
from tools.segment.request import Ready, Request
from tools.segment.workers import segment_here, segment_in_processes

NAMES = ["a", "b", "c", "d", "e"]
CASES = [Case(name) for name in NAMES]


@dataclass(frozen=True)
class Stand(Request):
    """Loads no network. What becomes of a case is in its name, and what was done is in the folder of results."""

    mistake: str | None = None

    def ready(self, progress: bool = False) -> Ready:
        if self.mistake == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mistake == "full gpu":
            import torch  # here, since the processes of the other tests need not wait for it

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if self.mistake:
            raise UserError(self.mistake)
        self.note("loaded")
        return Ready(self.segment)

    def segment(self, case: Case) -> str | None:
        self.note(case.name)
        if case.name.startswith("see"):
            self.wait_for(2)  # else one process might take all the cases
            self.note(f"{os.environ.get(gpus.VISIBLE)}|{os.environ.get(gpus.PIPES)}")
        logging.getLogger("tools.stand").info("%s: with %s threads", case.name, os.environ.get("OMP_NUM_THREADS"))
        if case.name.endswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if case.name == "endless":
            try:
                self.note("within")
                time.sleep(60)
            finally:
                self.note("cleaned")
        if case.name == "patient":
            self.wait_for(3)
        if case.name == "last":
            self.wait_for(2, "see")
        return "it is broken" if case.name == "bad" else None

    def wait_for(self, times: int, what: str = "loaded") -> None:
        """Until this was noted so many times: by default, until so many processes are or were there."""
        deadline = time.monotonic() + 100
        while self.noted.count(what) < times and time.monotonic() < deadline:
            time.sleep(0.01)

    def note(self, what: str) -> None:
        """Processes add whole lines to one file."""
        with (self.output / "log").open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    @property
    def noted(self) -> list[str]:
        return [line.split()[0] for line in (self.output / "log").read_text().splitlines()]

    @property
    def processes(self) -> set[int]:
        return {int(line.split()[1]) for line in (self.output / "log").read_text().splitlines()}


@pytest.fixture
def request_(tmp_path: Path) -> Stand:
    return Stand(source=tmp_path, output=tmp_path, bundle=tmp_path)


class Told:
    """What a caller hears."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str | None] = {}

    def __call__(self, case: Case, problem: str | None) -> None:
        assert case.name not in self.outcomes
        self.outcomes[case.name] = problem


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_case_is_segmented_once_and_each_process_loads_the_network_once(request_: Stand) -> None:
    told = Told()
    segment_in_processes([*CASES, Case("bad")], request_, 2, told)
    assert told.outcomes == dict.fromkeys(NAMES) | {"bad": "it is broken"}
    assert sorted(request_.noted) == sorted([*NAMES, "bad", "loaded", "loaded"])
    assert len(request_.processes) == 2
    assert os.getpid() not in request_.processes
    assert not any(map(alive, request_.processes))


def test_there_are_no_more_processes_than_cases(request_: Stand) -> None:
    segment_in_processes(CASES[:2], request_, 8, Told())
    assert request_.noted.count("loaded") == 2


def test_one_worker_is_this_process(request_: Stand) -> None:
    told = Told()
    segment_here(CASES, request_, told)
    assert told.outcomes == dict.fromkeys(NAMES)
    assert request_.noted == ["loaded", *NAMES]
    assert request_.processes == {os.getpid()}


def test_the_processors_are_shared_and_what_a_process_logs_is_logged_here(
    request_: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(7)))
    with caplog.at_level(logging.INFO, "tools"):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        segment_in_processes(CASES[:2], request_, 2, Told())
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        segment_in_processes(CASES[2:4], request_, 2, Told())
    assert sorted(caplog.messages) == [f"{n}: with {t} threads" for n, t in zip("abcd", "3355", strict=True)]


def test_a_process_that_is_killed_takes_its_own_case_with_it_and_another_goes_on(request_: Stand) -> None:
    told = Told()
    segment_in_processes([Case("killed"), Case("patient"), *CASES], request_, 2, told)
    problem = told.outcomes.pop("killed")
    assert problem is not None
    assert "was killed by signal 9 (SIGKILL); the system does so when memory runs out" in problem
    assert told.outcomes == dict.fromkeys(["patient", *NAMES])
    assert sorted(request_.noted) == sorted([*NAMES, "killed", "patient", *["loaded"] * 3])


@pytest.mark.parametrize(("names", "shared"), [(["GPU-1", "GPU-2"], False), (["GPU-1"], True)])
def test_processes_take_the_gpus_by_turns(request_: Stand, machine: Machine, names: list[str], shared: bool) -> None:
    machine.has(*names)
    machine.has_mps()
    with gpus_for(2) as found:
        segment_in_processes([Case("see"), Case("see too")], request_, 2, Told(), found)
    told = [word.split("|") for word in request_.noted if "|" in word]
    assert sorted(name for name, _ in told) == (names if len(names) == 2 else names * 2)
    assert {pipes for _, pipes in told} == {machine.called[0][2] if shared else "None"}


def test_process_that_takes_the_place_of_a_dead_one_takes_its_gpu(request_: Stand, machine: Machine) -> None:
    machine.has("GPU-1", "GPU-2")
    with gpus_for(2) as found:
        # The first process is busy until the new one has a case.
        segment_in_processes([Case("last"), Case("see killed"), Case("see")], request_, 2, Told(), found)
        with found.one() as first, found.one() as second:
            assert {each[gpus.VISIBLE] for each in (first, second)} == {"GPU-1", "GPU-2"}
    dead, its_place = (word for word in request_.noted if "|" in word)
    assert its_place == dead


def test_a_mistake_that_all_cases_share_is_told_once(request_: Stand) -> None:
    with pytest.raises(UserError, match="no model"):
        segment_in_processes(CASES, Stand(**(vars(request_) | {"mistake": "no model"})), 2, Told())


def test_a_gpu_without_room_for_the_networks_is_told_once(request_: Stand) -> None:
    with pytest.raises(UserError, match=r"^GPU memory: expected room .* 2.00 GiB asked for.* fewer `--workers`"):
        segment_in_processes(CASES, Stand(**(vars(request_) | {"mistake": "full gpu"})), 2, Told())


def test_a_process_that_dies_before_its_first_case_is_a_mistake(request_: Stand) -> None:
    with pytest.raises(UserError, match=r"--workers: expected .*killed by signal 9 .*; take fewer"):
        segment_in_processes(CASES, Stand(**(vars(request_) | {"mistake": "killed"})), 2, Told())


def test_stopping_ends_all_processes_in_order(request_: Stand) -> None:
    def stop(case: Case, problem: str | None) -> None:
        while "within" not in request_.noted:  # what is to be cleaned up has begun
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_in_processes([Case("endless"), *CASES], request_, 2, stop)
    assert "cleaned" in request_.noted  # so it was not killed, as it would be when patience ends
    assert len(request_.processes) == 2
    assert not any(map(alive, request_.processes))
