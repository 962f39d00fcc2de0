"""A run of a comparison as its folder shows it: how far it is, who works on it, and what it wrote."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json, write_json

RUN, STATE, LOG, LOCK = "run.json", "state.json", "log.txt", "lock"
MODEL, LAST, RESUME, CURVES = "models/model.pt", "models/last.pt", "resume.pt", "curves.csv"
VALIDATION, VALIDATION_LAST, TEST = "validation", "validation_last", "test"  # what is scored, each in a folder
QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
BUSY = "busy"  # never in a file: what a run is to everybody but the process that works on it
TAIL = 4096  # bytes of a log that hold its last line


@dataclass(frozen=True)
class Run:
    """One training of a comparison.

    folder: all that belongs to it.
    method, seed: what it trains.
    steps: the length of the training.
    what: tells it from other runs of this method and seed.
    """

    folder: Path
    method: str
    seed: int
    steps: int
    what: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.method, self.what, f"seed {self.seed}")))

    def steps_done(self) -> int:
        """Steps that its curves show; a row is written with every validation."""
        try:
            header, *_, last = (self.folder / CURVES).read_text(encoding="utf-8").splitlines()
            return min(self.steps, int(dict(zip(header.split(","), last.split(","), strict=False))["step"]))
        except (OSError, ValueError, KeyError):  # no file yet, or no row
            return 0


def read_state(folder: Path) -> dict[str, Any]:
    """The content of a run's state.json; empty before its first.

    "state": queued, running, done or failed; "running" may also be left by a run that was killed, which nobody holds
    (see `held`). "queued", "started", "finished": times. "seconds": of work, over all attempts that were not killed.
    "code": the commits that it was worked on with. "sha256": of model.pt, once the training is over; "last": of
    last.pt, which runs of older code do not have. "validation", "validation_last", "test": when it was scored, and with
    which checkpoint. "error": why it failed.

    Raises:
        UserError: the file holds no mapping.
    """
    file = folder / STATE
    return read_json(file, "state of a run") if file.is_file() else {}


def is_finished(state: Mapping[str, Any], test: bool = False) -> bool:
    """Whether nothing is left to do in this state, with `test` including the scores of the test set."""
    return state.get("state") == DONE and (not test or "test" in state)


def write_state(folder: Path, **changes: Any) -> dict[str, Any]:
    """Change a run's state.json; a value of None takes a key out."""
    state = {key: value for key, value in (read_state(folder) | changes).items() if value is not None}
    write_json(folder / STATE, state)
    return state


def now() -> str:
    """The time as state.json writes it, with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """The lock of a run, as a descriptor that commands inherit; None where another process holds it.

    The system frees the lock when the last process that has it ends, however it ends.

    Raises:
        UserError: the file system has no locks.
    """
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        except OSError as error:
            raise UserError(
                f"{file.name}: expected a file system that can lock files, found: {error.strerror}; choose an --output "
                "on another one"
            ) from error
        else:
            yield file.fileno()


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
