"""What tests of `compare` and `table` share: a stand-in for the bundle runner, and what runs leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from scripts.scoring.tables import case_rows, summarise, write_scores_csv

Compare = Callable[..., tuple[int, str, str]]  # the fixture: exit code, stdout, stderr
SMALL = ("image_size=[32,32]", "network_def::width=4", "val_steps=2")
LABELS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
# What run.json and state.json of such runs say.
SHARED = {"bundle": "dca_acdc", "data": "ACDC", "split": "published", "percent": 10, "preset": "cpu", "steps": 1500}
CODE = [{"commit": "0123456789abcdef", "dirty": False}]
KINDS = {"native_mm": ("mm", "strict"), "protocol_voxels": ("voxels", "zero")}


def leave_scores(
    folder: Path,
    dice: Sequence[float],
    cases: str = "ab",
    labels: Mapping[int, str] = LABELS,
    **metrics: Sequence[float],
) -> None:
    """The files of an evaluation in which all cases score alike: a figure per class for dice and other metrics."""
    for kind, (unit, policy) in KINDS.items():
        scores = {name: np.array(values) for name, values in ({"dice": dice} | metrics).items()}
        scores["empty"] = np.full(len(dice), "")
        rows = [row for case in cases for row in case_rows(case, scores, unit, policy, labels)]
        write_scores_csv(folder / f"scores_{kind}.csv", rows)
        write_scores_csv(folder / f"summary_{kind}.csv", summarise(rows))


def leave_run(
    folder: Path,
    method: str,
    seed: int = 0,
    dice: Sequence[float] | None = (0.9, 0.6, 0.3),
    test: Sequence[float] | None = None,
    last: Sequence[float] | None = None,
    state: dict[str, Any] | None = None,
    shared: dict[str, Any] | None = None,
    settings: dict[str, str] | None = None,
    labels: Mapping[int, str] = LABELS,
    **metrics: Sequence[float],
) -> None:
    """A run as `compare` leaves it: scores of the validation set, and by the last checkpoint and of the test set where
    there are some."""
    run = folder / method / f"seed{seed}"
    variant_of = "dca" if method.startswith("dca_") else None
    about = {"method": method, "variant_of": variant_of, "seed": seed, "labels": [*labels.values()]}
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(about | {"shared": shared or SHARED, "set": settings or {}}))
    content: dict[str, Any] = {"state": "done", "code": CODE} | (state or {})
    for role, scores in (("validation", dice), ("validation_last", last), ("test", test)):
        if scores is not None:
            leave_scores(run / role, scores, labels=labels, **metrics)
            content[role] = {"at": "2026-01-01T00:00:00+00:00"}
    (run / "state.json").write_text(json.dumps(content))


class Trainings:
    """Takes the commands of runs and leaves behind what the bundle runner would, at once.

    faults: what a command ends with instead, by "METHOD WHAT" (WHAT: training, validation, validation_last or test):
        the last line of its log for exit code 1, or a signal that kills it in the middle.
    pace: seconds a step by method, else 1; the first epoch takes three times as long.
    dice: the Dice of every class that a run has on the validation set, from the options of its command.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.faults: dict[str, str | int] = {}
        self.pace: dict[str, float] = {}
        self.dice: Callable[[Mapping[str, str]], Sequence[float]] = lambda options: (0.9, 0.6, 0.3)
        self.calls: list[str] = []
        self.options: list[dict[str, str]] = []
        self.environments: list[Mapping[str, str]] = []

    def __call__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], held: int) -> int:
        words = list(command[command.index("run") + 2 :])
        options = {key.removeprefix("--"): value for key, value in zip(words[::2], words[1::2], strict=True)}
        what = Path(options["output_dir"]).name if "output_dir" in options else "training"
        self.calls.append(f"{options['method']} {options['seed']} {what}")
        self.options.append(options)
        self.environments.append(environment)
        folder = Path(options["run_dir"])
        fault = self.faults.get(f"{options['method']} {what}")
        with log.open("a") as file:
            file.write(f"{what}\n{fault or 'done'}\n\n")
        if what == "training":
            (folder / "resume.pt").write_text("half of it")
            epochs = 1 if fault else int(options.get("epochs", 1))
            steps = (3 if fault else int(options["steps"])) // epochs
            pace = steps * self.pace.get(options["method"], 1.0)
            rows = [f"{e},{e * steps},{pace * (3 if e == 1 else 1)},0.5\n" for e in range(1, epochs + 1)]
            (folder / "curves.csv").write_text("".join(["epoch,step,seconds,loss\n", *rows]))
        if fault is not None:
            return -fault if isinstance(fault, int) else 1
        if what == "training":
            (folder / "models").mkdir(exist_ok=True)
            for name in ("model.pt", "last.pt"):
                (folder / "models" / name).write_text(f"{options['method']} {options['seed']} {name}")
        else:
            leave_scores(Path(options["output_dir"]), self.dice(options))
        return 0

    def stop(self) -> None:
        self.stopped = True


Launcher = TypeVar("Launcher", bound=Trainings)


def stand_in(monkeypatch: pytest.MonkeyPatch, launcher: Launcher) -> Launcher:
    """Let it take the commands of all runs of the test, without pauses."""
    monkeypatch.setattr("tools.compare.executors.Processes", lambda: launcher)
    monkeypatch.setattr("tools.common.clusters.POLL", 0.01)
    return launcher
