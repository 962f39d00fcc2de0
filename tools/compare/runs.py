"""Works on a run of a comparison: training, then the scores of its best and of its last checkpoint."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scripts.files import read_json, sha256

from ..common.checkout import checkout
from ..common.paths import ROOT
from ..common.stopping import killed_by
from .state import (
    BUSY,
    DONE,
    FAILED,
    LAST,
    LOG,
    MODEL,
    QUEUED,
    RESUME,
    RUN,
    RUNNING,
    TEST,
    VALIDATION,
    VALIDATION_LAST,
    held,
    is_finished,
    last_line,
    now,
    read_state,
    write_state,
)


class Launcher(Protocol):
    """Runs a command; `stopped` says that the user wants no more of them."""

    stopped: bool

    def __call__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], held: int) -> int:
        """Run the command to its end and return its exit code; below 0: the signal that killed it.

        Args:
            command: the words of the command line.
            log: file that its output is added to.
            environment: of its process.
            held: descriptor of the lock of the run; the command inherits it, so that the run stays locked while it
                works, even if this process is killed.
        """

    def stop(self) -> None:
        """End what runs, and let nothing start any more."""


class Processes:
    """The `Launcher` that starts real processes, and can stop them all."""

    def __init__(self) -> None:
        self.stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], held: int) -> int:
        """See `Launcher`."""
        if self.stopped:
            return -signal.SIGTERM
        with log.open("ab") as output:
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            # A session of its own: Ctrl-C reaches only this process, which then stops the others in order.
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(held,),
                start_new_session=True,
            )
            self._running.add(process)
            try:
                if self.stopped:
                    process.terminate()
                return process.wait()
            finally:
                self._running.discard(process)

    def stop(self) -> None:
        """See `Launcher`."""
        self.stopped = True
        for process in list(self._running):
            process.terminate()


def perform(
    folder: Path,
    launcher: Launcher,
    test: bool = False,
    threads: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Do what is left of a run: train, or go on with the training; score the validation set with the best and with the
    last checkpoint; with `test` the test set with the best one.

    Args:
        folder: of the run, with run.json.
        launcher: runs the commands.
        test: score the test set, if that has not been done.
        threads: of torch in each command, unless OMP_NUM_THREADS says; None leaves it to torch.
        variables: of the environment of each command, such as the GPU that it sees.

    Returns:
        The state that the run is in now: done, failed (its state.json says why), queued if the user stopped it, or busy
        if another process works on it.
    """
    with held(folder) as lock:
        if lock is None:
            return BUSY
        state = read_state(folder)
        if is_finished(state, test):
            return DONE
        commands = read_json(folder / RUN, "description of a run")["commands"]
        # Unbuffered, so that the log ends with what ended the command.
        environment = ({} if threads is None else {"OMP_NUM_THREADS": str(threads)}) | dict(os.environ)
        environment |= {"PYTHONUNBUFFERED": "1", **(variables or {})}
        begun = time.monotonic()
        about = {"host": socket.gethostname(), "process": os.getpid()}
        write_state(folder, state=RUNNING, started=now(), code=_codes(state), error=None, finished=None, **about)

        def command(name: str) -> int:
            return launcher(commands[name], folder / LOG, environment, lock)

        try:
            error = _train(folder, command, (MODEL, LAST) if VALIDATION in commands else (LAST,))
            for role in (VALIDATION, VALIDATION_LAST, TEST) if test else (VALIDATION, VALIDATION_LAST):
                if role in commands:
                    error = error or _score(folder, command, role)
        except OSError as problem:  # a full disk, a model that is gone
            error = f"{problem.filename}: {problem.strerror}"
        stopped = bool(error) and launcher.stopped
        reached = QUEUED if stopped else FAILED if error else DONE
        if reached == DONE:
            (folder / RESUME).unlink(missing_ok=True)  # several times the size of the model, and no use any more
        seconds = round(state.get("seconds", 0) + time.monotonic() - begun, 1)
        about = {"state": reached, "seconds": seconds, "error": None if stopped else error}
        write_state(folder, finished=None if stopped else now(), **about)
        return reached


def _train(folder: Path, command: Callable[[str], int], expected: Sequence[str]) -> str | None:
    """Train, unless that is done, and expect these files of it; what went wrong."""
    if {"sha256", "last"} & read_state(folder).keys():
        return None
    error = _outcome(folder, command("training"))
    if error is None:
        for file in expected:
            if not (folder / file).is_file():
                return f"the training left no {file}"
        hashes = {"sha256": MODEL, "last": LAST}
        write_state(folder, **{key: sha256(folder / file) for key, file in hashes.items() if file in expected})
    return error


def _score(folder: Path, command: Callable[[str], int], role: str) -> str | None:
    """Score the validation or the test set with a checkpoint of the training, unless that is done; what went wrong."""
    state = read_state(folder)
    file, recorded, which = MODEL, state["sha256"], "validation chose"
    if role == VALIDATION_LAST:
        file, recorded, which = LAST, state.get("last"), "the training ended with"
    if role in state or recorded is None:  # a training of older code left no last checkpoint
        return None
    if sha256(folder / file) != recorded:
        return f"{file}: expected the checkpoint that {which}, found another; {role} is not scored"
    error = _outcome(folder, command(role))
    if error is None:
        write_state(folder, **{role: {"at": now(), "sha256": recorded}})
    return error


def _outcome(folder: Path, code: int) -> str | None:
    if code < 0:
        return killed_by(-code)
    return None if code == 0 else last_line(folder / LOG) or f"exit code {code}"


def _codes(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The commits that a run has been worked on with, the present one last."""
    code = checkout()
    return [*(other for other in state.get("code", []) if other != code), code]
