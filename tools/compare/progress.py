"""What the user sees while runs are worked on: a bar with the time left, and a line for every run that is over."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

from .state import DONE, FAILED, RUNNING, Run, read_state


class Progress:
    """Call it with the runs that are not over, as often as you like; then close it.

    Both count steps of training, as far as the curves show them. The bar is left out where nobody watches.

    Args:
        runs: all of the comparison, finished ones included.
        todo: those that are worked on now.
    """

    def __init__(self, runs: Sequence[Run], todo: Sequence[Run]) -> None:
        from tqdm import tqdm

        self.runs, self.left = runs, list(todo)
        self.over = len(runs) - len(todo)
        self.begun = time.monotonic()
        self.first, total = self._steps()
        # smoothing 0: the steps come in lumps, so the mean pace tells the time left better than the last one.
        self.bar = tqdm(total=total, initial=self.first, unit="step", smoothing=0, dynamic_ncols=True, disable=None)

    def __call__(self, left: Sequence[Run]) -> None:
        done, total = self._steps()
        for run in self.left:
            if run not in left:
                self.over += 1
                self.bar.write(f"{self.over} of {len(self.runs)}: {describe(run)}{self._time_left(done, total)}")
        self.left = list(left)
        self.bar.n, self.bar.total = done, total
        running = [str(run) for run in left if read_state(run.folder).get("state") == RUNNING]
        self.bar.set_postfix_str("; ".join(running))

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

    def _steps(self) -> tuple[int, int]:
        """Steps that are done, and of how many; a run that failed has none left."""
        done = {run: run.steps_done() for run in self.runs}
        failed = [run for run in self.runs if read_state(run.folder).get("state") == FAILED]
        return sum(done.values()), sum(done[run] if run in failed else run.steps for run in self.runs)

    def _time_left(self, done: int, total: int) -> str:
        """For a line of the log, as the bar tells it to those who watch."""
        if done == self.first or done == total:
            return ""
        pace = (time.monotonic() - self.begun) / (done - self.first)
        return f"; about {duration((total - done) * pace)} left"


def describe(run: Run) -> str:
    """How a run ended, in a line."""
    state = read_state(run.folder)
    after = f" after {duration(state['seconds'])}" if "seconds" in state else ""
    match state.get("state"):
        case "done":
            roles = [role for role in ("validation", "test") if role in state]
            scores = [f"{role} Dice {average_dice(run.folder / role):.4f}" for role in roles]
            return ", ".join([f"{run}: {DONE}{after}", *scores])
        case "failed":
            return f"{run}: {FAILED}{after}: {state.get('error')}"
    return f"{run}: another process works on it"


def duration(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def average_dice(folder: Path) -> float:
    """The average over the classes in the first summary that an evaluation wrote into a folder; nan without one."""
    for path in sorted(folder.glob("summary_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["class"] == "average":
                    return float(row.get("dice", "nan"))
    return float("nan")
