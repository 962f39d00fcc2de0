"""Which GPU a process is told to take, and when NVIDIA's multi-process service runs."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

import pytest

from tests.tools.fake_gpus import Machine
from tools.common import gpus
from tools.common.gpus import Gpus, gpus_for

ONE, TWO, PART, OTHER_PART = "GPU-1", "GPU-2", "MIG-a", "MIG-b"


def taken(workers: int, *settings: str, mps: bool = True) -> list[str | None]:
    """What CUDA_VISIBLE_DEVICES becomes for processes that run at the same time; None where it stays."""
    with gpus_for(workers, settings, mps) as found, contextlib.ExitStack() as stack:
        return [stack.enter_context(found.one()).get(gpus.VISIBLE) for _ in range(workers)]


def test_gpu_with_the_fewest_processes_is_taken() -> None:
    several = Gpus([ONE, TWO])
    with several.one() as first:
        with several.one() as second, several.one() as third:
            assert [each[gpus.VISIBLE] for each in (first, second, third)] == [ONE, TWO, ONE]
        with several.one() as after:
            assert after == {gpus.VISIBLE: TWO}
    for _ in range(2):
        with several.one() as alone:
            assert alone == {gpus.VISIBLE: ONE}


def test_processes_take_the_gpus_of_the_machine_by_turns(machine: Machine) -> None:
    machine.has(ONE, TWO)
    assert taken(2) == [ONE, TWO]


def test_parts_of_a_gpu_stand_for_it(machine: Machine) -> None:
    machine.has(ONE, PART, OTHER_PART, TWO)
    assert taken(3) == [PART, OTHER_PART, TWO]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("2,0", ["2", "0", "2"]),
        (" GPU-2 ", ["GPU-2"] * 3),
        ("MIG-b,MIG-a", ["MIG-b", "MIG-a", "MIG-b"]),
        ("1,-1,0", ["1", "1", "1"]),
        ("", [None] * 3),
        ("-1", [None] * 3),
    ],
)
def test_only_what_the_user_lets_be_seen_is_taken_and_keeps_its_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str | None]
) -> None:
    machine.has(ONE, TWO)
    monkeypatch.setenv(gpus.VISIBLE, visible)
    assert taken(3) == expected


@pytest.mark.parametrize("key", ["device", "train::trainer::device", "validate#evaluator#device"])
def test_device_that_the_user_names_is_left_alone(machine: Machine, key: str) -> None:
    machine.has(ONE, TWO)
    machine.has_mps()
    assert taken(3, "lr", key) == [None] * 3
    assert machine.called == []
    assert taken(2, "lr", "devices") == [ONE, TWO]


def test_single_process_and_machine_without_a_gpu_are_left_alone(machine: Machine) -> None:
    assert taken(2) == [None, None]
    machine.has(ONE, TWO)
    assert taken(1) == [None]


def test_driver_that_does_not_answer_is_no_gpu(machine: Machine) -> None:
    machine.has(ONE)
    (machine.folder / "nvidia-smi").write_text(f"#!{sys.executable} -S\nprint('(UUID: GPU-1)'); exit(9)\n")
    assert taken(2) == [None, None]


def test_service_runs_in_folders_of_its_own_as_long_as_processes_share_a_gpu(machine: Machine) -> None:
    machine.has(ONE, TWO)
    machine.has_mps()
    with gpus_for(3) as found, found.one() as variables:
        assert [told for told, *_ in machine.called] == ["-d"]
        assert Path(variables[gpus.PIPES]).is_dir()
    (_, seen, pipes, logs), stopped = machine.called
    assert stopped == ["quit", seen, pipes, logs]
    assert variables == {gpus.VISIBLE: ONE, gpus.PIPES: pipes, gpus.LOGS: logs}
    assert seen == "GPU-1,GPU-2"
    assert pipes != logs
    assert not Path(pipes).parent.exists()


def test_service_sees_all_gpus_where_those_of_the_user_have_numbers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has_mps()
    monkeypatch.setenv(gpus.VISIBLE, "1")
    assert taken(2) == ["1", "1"]
    assert [seen for _, seen, *_ in machine.called] == ["", ""]  # 1 of those that it sees, so it has to see 0


def test_service_ends_after_an_interrupt(machine: Machine) -> None:
    machine.has(ONE)
    machine.has_mps()
    with pytest.raises(KeyboardInterrupt), gpus_for(2):
        raise KeyboardInterrupt
    assert [told for told, *_ in machine.called] == ["-d", "quit"]


@pytest.mark.parametrize("case", ["enough gpus", "switched off", "parts", "variable", "usual place"])
def test_no_service_is_started_without_need_nor_beside_the_users(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    names = {"enough gpus": [ONE, TWO], "parts": [ONE, PART]}.get(case, [ONE])
    machine.has(*names)
    machine.has_mps()
    if case == "variable":
        monkeypatch.setenv(gpus.PIPES, "pipes")
    if case == "usual place":
        machine.usual_pipes.mkdir()
        (machine.usual_pipes / "control").touch()
    assert taken(2, mps=case != "switched off") == {"enough gpus": names, "parts": [PART] * 2}.get(case, [ONE] * 2)
    assert machine.called == []


@pytest.mark.parametrize("what", ["program", "cuda"])
def test_gpu_is_shared_without_the_service_where_it_cannot_start(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    machine.has(ONE)
    machine.has_mps(fault="no permission" if what == "program" else "")
    if what == "cuda":
        monkeypatch.setattr(gpus, "PROBE", (sys.executable, "-c", "import sys; sys.exit('no permission')"))
    with caplog.at_level(logging.INFO), gpus_for(2) as found, found.one() as variables:
        assert variables == {gpus.VISIBLE: ONE}
    (message,) = caplog.messages
    assert message == "processes share a GPU without NVIDIA's MPS, which could not be started: no permission"
    assert machine.called[-1][0] == "quit"


def test_machine_without_the_service_shares_its_gpu_all_the_same(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.has(ONE)
    assert taken(2) == [ONE, ONE]
    assert caplog.messages == []
