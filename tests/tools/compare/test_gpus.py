"""`compare`: its runs take the GPUs of the machine by turns; processes of their own tell which they see."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.tools.compare.test_processes import HANG, TRAIN, planned, wait_for
from tests.tools.fake_gpus import Machine
from tests.tools.trainings import Compare, Trainings
from tools.common import gpus
from tools.common.gpus import gpus_for
from tools.compare.executors import run_here
from tools.compare.runs import Processes, perform

KEYS = [gpus.VISIBLE, gpus.PIPES, gpus.LOGS]
# Ends only when as many processes as there are to be at the same time have begun.
TOGETHER = """
import json, pathlib, time
pathlib.Path('seen.json').write_text(json.dumps({{key: os.environ.get(key) for key in {keys}}}))
while len(list(pathlib.Path('..').glob('*/seen.json'))) < {number}:
    time.sleep(0.01)
{train}
"""


def seen_by_runs(folder: Path, workers: int, runs: int) -> list[dict[str, str | None]]:
    """The variables that the trainings see."""
    program = TOGETHER.format(keys=KEYS, number=workers, train=TRAIN)
    todo = [planned(folder / f"run{number}", program) for number in range(runs)]
    with gpus_for(workers) as found:
        run_here(todo, False, workers, lambda left: None, gpus=found)
    return [json.loads((run.folder / "seen.json").read_text()) for run in todo]


def test_runs_see_a_gpu_each(machine: Machine, tmp_path: Path) -> None:
    machine.has("GPU-1", "GPU-2")
    assert sorted(str(seen[gpus.VISIBLE]) for seen in seen_by_runs(tmp_path, 2, 2)) == ["GPU-1", "GPU-2"]


def test_runs_that_share_a_gpu_find_the_service(machine: Machine, tmp_path: Path) -> None:
    machine.has("GPU-1")
    machine.has_mps()
    told = seen_by_runs(tmp_path, 2, 3)
    (_, _, *folders), _ = machine.called
    assert told == [dict(zip(KEYS, ["GPU-1", *folders], strict=True))] * 3


def test_job_of_a_cluster_sees_what_the_cluster_gives_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has("GPU-1", "GPU-2")
    monkeypatch.setenv(gpus.VISIBLE, "0,1")
    run = planned(tmp_path / "run", TOGETHER.format(keys=KEYS, number=1, train=TRAIN))
    assert perform(run.folder, Processes()) == "done"
    assert json.loads((run.folder / "seen.json").read_text())[gpus.VISIBLE] == "0,1"


def test_verb_shares_the_gpus_and_starts_and_ends_the_service(
    compare: Compare, trainings: Trainings, machine: Machine
) -> None:
    machine.has("GPU-1")
    machine.has_mps()

    def environments(*words: object) -> set[tuple[str | None, bool]]:
        trainings.environments.clear()
        assert compare("supervised", *words)[0] == 0
        return {(seen.get(gpus.VISIBLE), gpus.PIPES in seen) for seen in trainings.environments}

    assert environments("--seeds", "0,1", "--workers", 2) == {("GPU-1", True)}
    assert [told for told, *_ in machine.called] == ["-d", "quit"]
    assert environments("--seeds", "2,3", "--workers", 2, "--no-mps") == {("GPU-1", False)}
    assert environments("--seeds", "4", "--workers", 2) == {(None, False)}  # one run is alone on the machine
    assert environments("--seeds", "5,6", "--workers", 2, "--set", "device=cpu") == {(None, False)}
    assert len(machine.called) == 2


def test_service_outlives_what_is_stopped(machine: Machine, tmp_path: Path) -> None:
    machine.has("GPU-1")
    machine.has_mps()
    note = f"open({str(machine.calls)!r}, 'a').write('a run ended|||\\n')"
    program = f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: ({note}, sys.exit(1)))\n{HANG}"
    runs = [planned(tmp_path / name, program) for name in ("first", "second")]

    def interrupt() -> None:
        wait_for(lambda: all((run.folder / "begun").exists() for run in runs))
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt), gpus_for(2) as found:
            run_here(runs, False, 2, lambda left: None, gpus=found)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [told for told, *_ in machine.called] == ["-d", *["a run ended"] * 2, "quit"]
