"""`compare`: the processes that work on its runs, here and as jobs of a cluster; and one comparison for real."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.errors import UserError
from tests.bundle_runner import ROOT, BundleRunner
from tests.tools.trainings import Compare, Trainings
from tools.__main__ import main
from tools.compare.executors import run_on_cluster
from tools.compare.progress import describe
from tools.compare.runs import Processes, perform
from tools.compare.state import Run, held, read_state

TRAIN = "import pathlib; f = pathlib.Path('models'); f.mkdir(exist_ok=True)"
TRAIN += "; [(f / name).write_text('model') for name in ('model.pt', 'last.pt')]"
SCORE = "print('scored')"
HANG = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60)"
KILL = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"


def planned(folder: Path, training: str = TRAIN, validation: str = SCORE) -> Run:
    """A run whose commands are Python programs, which start in its folder."""
    folder.mkdir(parents=True)
    programs = {"training": training, "validation": validation, "validation_last": SCORE}
    commands = {
        what: [sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{program}"]
        for what, program in programs.items()
    }
    (folder / "run.json").write_text(json.dumps({"commands": commands}))
    return Run(folder, folder.name, 0, 1)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_output_and_command_of_a_process_are_in_the_log_and_a_fault_is_its_last_line(tmp_path: Path) -> None:
    good = planned(tmp_path / "good")
    bad = planned(tmp_path / "bad", validation="import sys; print('first', flush=True); sys.exit('it is broken')")
    assert perform(good.folder, Processes()) == "done"
    assert perform(bad.folder, Processes()) == "failed"
    assert read_state(bad.folder)["error"] == "it is broken"
    log = (good.folder / "log.txt").read_text()
    assert log.count(f"$ {sys.executable} -c ") == 3
    assert log.endswith("scored\n")


def test_a_run_stays_locked_while_its_training_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", training=f"import os; open('pid', 'w').write(str(os.getpid()))\n{HANG}")
    with subprocess.Popen([sys.executable, "-m", "tools.compare", str(run.folder)], cwd=ROOT) as worker:
        wait_for((run.folder / "begun").exists)
        worker.kill()
    assert perform(run.folder, Processes()) == "busy"
    assert describe(run) == "run, seed 0: another process works on it"
    os.kill(int((run.folder / "pid").read_text()), signal.SIGKILL)
    planned_again = json.loads((run.folder / "run.json").read_text())
    planned_again["commands"]["training"][-1] = f"import os; os.chdir({str(run.folder)!r})\n{TRAIN}"
    (run.folder / "run.json").write_text(json.dumps(planned_again))

    def is_free() -> bool:
        with held(run.folder) as lock:
            return lock is not None

    wait_for(is_free)
    assert perform(run.folder, Processes()) == "done"


def test_stopping_ends_processes_and_starts_no_more(tmp_path: Path) -> None:
    run, launcher = planned(tmp_path / "run", training=HANG), Processes()
    with ThreadPoolExecutor(1) as pool:
        reached = pool.submit(perform, run.folder, launcher)
        wait_for((run.folder / "begun").exists)
        launcher.stop()
        assert reached.result(20) == "queued"
    assert "error" not in read_state(run.folder)
    assert perform(planned(tmp_path / "other").folder, launcher) == "queued"


def test_jobs_of_a_cluster_work_on_runs_and_one_that_is_killed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.common.clusters.POLL", 0.1)
    runs = [planned(tmp_path / "good"), planned(tmp_path / "killed", training=KILL)]
    seen: list[int] = []
    run_on_cluster(runs, False, 2, lambda left: seen.append(len(left)), tmp_path, {"timeout_min": 1}, cluster="local")
    assert (seen[0], seen[-1]) == (2, 0)
    assert read_state(runs[0].folder)["state"] == "done"
    state = read_state(runs[1].folder)
    assert state["state"] == "failed"
    assert state["error"].startswith("the job ended before the run did (")
    assert Path(state["error"].split("; see ")[1]).is_file()


def test_jobs_of_a_cluster_get_its_parameters_or_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--executor local: expected to submit jobs, found: .*timeout_minutes"):
        run_on_cluster([planned(tmp_path / "run")], False, 1, print, tmp_path, {"timeout_minutes": 1}, cluster="local")


@pytest.mark.skipif(shutil.which("srun") is not None, reason="there is a cluster here")
def test_a_machine_without_slurm_says_so(compare: Compare) -> None:
    code, _, error = compare("supervised", "--executor", "slurm")
    assert code == 2
    assert "error: --executor slurm: expected to submit jobs, found: " in error
    assert error.count("\n") == 1


def test_several_workers_share_the_processors(
    compare: Compare, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(7)))
    compare("supervised")
    compare("supervised", "--seeds", "0,1,2", "--workers", 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    compare("supervised", "--seeds", "3,4", "--workers", 2)
    threads = [environment.get("OMP_NUM_THREADS") for environment in trainings.environments]
    assert threads == [None] * 3 + ["3"] * 6 + ["5"] * 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_ends_what_runs_and_the_same_command_goes_on(
    compare: Compare, trainings: Trainings, output: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def train_until_stopped(*arguments: object, **keywords: object) -> int:
        while not trainings.stopped:
            time.sleep(0.01)
        return -signal.SIGTERM

    def interrupt(progress: object, left: object) -> None:
        while read_state(output / "supervised" / "seed0").get("state") != "running":
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    # Under nohup, or in a shell's background, the tests start with the signal ignored, and `compare` would leave it so.
    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainings, "__call__", train_until_stopped)
            patch.setattr("tools.compare.command.Progress.__call__", interrupt)
            code, printed, _ = compare("supervised,cps")
    finally:
        signal.signal(number, before)
    assert code == 130
    assert "stopped; the same command goes on" in printed
    for method in ("supervised", "cps"):
        assert read_state(output / method / "seed0")["state"] == "queued"
    trainings.stopped = False
    assert compare("supervised,cps")[0] == 0


def test_the_real_thing_trains_evaluates_and_can_be_repeated_from_its_config(
    compare: Compare, runner: BundleRunner, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forks(Trainings):
        def __call__(self, command: list[str], log: Path, environment: object, held: int) -> int:  # type: ignore[override]
            result = runner.run(command[command.index("monai.bundle") + 1 :], ROOT)
            with log.open("a") as file:
                file.write(result.out + result.error)
            return result.code

    monkeypatch.setattr("tools.compare.executors.Processes", Forks)
    code, printed, _ = compare("dca_no_dfam,dca_sequential", steps=2)
    assert code == 1
    assert "grouping rule 'sequential': expected a gap after the largest one" in printed, printed
    folder = output / "dca_no_dfam" / "seed0"
    state, model = read_state(folder), json.loads((folder / "models" / "model.json").read_text())
    assert state["state"] == "done"
    assert state["sha256"] == model["sha256"]
    assert model["method"] == "dca_no_dfam"
    assert (folder / "curves.csv").read_text().count("\n") == 2
    assert main(["table", str(output), "--checkpoint", "last", "--output", str(tmp_path / "last.md")]) == 0
    assert main(["table", str(output), "--output", str(tmp_path / "table.md")]) == 0
    assert "| DCA, no DFAM " in (tmp_path / "table.md").read_text()
    again = tmp_path / "again"
    places = ["--run_dir", str(again), "--ckpt_dir", str(again / "models")]
    runner.run(["run", "training", "--config_file", str(folder / "config.json"), *places], ROOT).check()
    assert hashlib.sha256((again / "models" / "model.pt").read_bytes()).hexdigest() == state["sha256"]


def test_verb_imports_nothing_heavy() -> None:
    heavy = {"torch", "monai", "submitit", "tqdm"}
    code = f"import tools.compare.command, tools.table.command, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
