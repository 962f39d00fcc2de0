"""Runs `python -m monai.bundle` many times for the price of one start.

Importing MONAI takes seconds. So one process imports it and nothing of this project, and forks for every run: each runs
in a fresh copy, with its own working folder, arguments, output and exit code, as if it had been started from a shell.
"""

from __future__ import annotations

import datetime
import importlib
import io
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
HALF_WRITTEN = "half of the checkpoint is written"


@dataclass
class Result:
    """How a run ended."""

    code: int
    out: str
    error: str

    def check(self) -> Result:
        """This result, if the run succeeded."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.error}"
        return self


class BundleRunner:
    """The process that forks; close it when done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        self.runs = 0

    def close(self) -> None:
        """End the process."""
        self.server.communicate(timeout=60)

    def run(self, arguments: Sequence[str], cwd: Path) -> Result:
        """`python -m monai.bundle ARGUMENTS` in the folder `cwd`."""
        self.start(arguments, cwd)
        return self.finish()

    def run_tool(self, arguments: Sequence[str]) -> Result:
        """`python -m tools ARGUMENTS` in the repository root."""
        self.start(arguments, ROOT, module="tools")
        return self.finish()

    def run_file(self, file: Path, arguments: Sequence[str], cwd: Path) -> Result:
        """`python FILE ARGUMENTS` in the folder `cwd`; nothing of this project is importable."""
        self.start(arguments, cwd, file=str(file))
        return self.finish()

    def kill_in_save(self, number: int, arguments: Sequence[str], cwd: Path) -> Result:
        """Like `run`, but killed when half of the bytes of its checkpoint number `number` are on the disk."""
        process = self.start(arguments, cwd, stop_in_save=number)
        deadline = time.monotonic() + 300
        while HALF_WRITTEN not in self._output("out") and time.monotonic() < deadline:
            time.sleep(0.1)
        with suppress(ProcessLookupError):  # it ended by itself: its exit code tells
            os.kill(process, signal.SIGKILL)
        return self.finish()

    def start(self, arguments: Sequence[str], cwd: Path, **how: Any) -> int:
        """Start `python -m monai.bundle ARGUMENTS`, or what `become` makes of it and `how`; `finish` has to follow."""
        self.runs += 1
        job = {"arguments": list(arguments), "cwd": str(cwd), **how}
        job |= {stream: str(self.folder / f"{self.runs}.{stream}") for stream in ("out", "error")}
        for stream in ("out", "error"):
            Path(job[stream]).touch()
        assert self.server.stdin is not None
        print(json.dumps(job), file=self.server.stdin, flush=True)
        return self._answer()

    def finish(self) -> Result:
        """How what was started ended."""
        return Result(self._answer(), self._output("out"), self._output("error"))

    def _answer(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())

    def _output(self, stream: str) -> str:
        return (self.folder / f"{self.runs}.{stream}").read_text()


def serve() -> None:
    """Answer each job on stdin with the process id of its run, and then with its exit code."""
    # The last one is what the first step of an optimizer imports.
    for module in (
        "monai.bundle.scripts",
        "monai.engines",
        "ignite.engine",
        "nibabel",
        "highdicom",
        "fire",
        "torch._dynamo",
    ):
        importlib.import_module(module)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            become(json.loads(line))
            return
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def become(job: dict[str, Any]) -> None:
    """Be `python -m monai.bundle`, or the job's own module or file, with the job's arguments."""
    os.chdir(job["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, stream in ((1, "out"), (2, "error")):
        os.dup2(os.open(job[stream], os.O_WRONLY | os.O_APPEND), descriptor)
    if "end_in_write" in job:
        end_in_write(*job["end_in_write"])
    if "backwards" in job:
        turn_the_clock_back()
    if "stop_in_save" in job:
        stop_in_save(job["stop_in_save"])
    module = job.get("module", "monai.bundle")
    sys.argv = [job.get("file", module), *job["arguments"]]
    sys.path[0] = job["cwd"]
    if "file" in job:
        runpy.run_path(job["file"], run_name="__main__")
        return
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_in_write(folder: str, number: int, seconds: float, *events: str) -> None:
    """Let the kernel end this process so long after it has touched something in a folder so many times.

    `events` are the audit events that count; without, all that change files.
    """
    touched = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        counts = event in events if events else writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
        if counts and str(arguments[0]).startswith(folder) and next(touched) == number:
            if not seconds:
                os.kill(os.getpid(), signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.addaudithook(hook)


def turn_the_clock_back() -> None:
    """From now on each look at the clock shows a minute less."""
    minutes, begun = itertools.count(), time.time()
    time.time = lambda: begun - 60 * next(minutes)
    time.time_ns = lambda: int(time.time() * 1e9)

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Backwards:
            return cls.fromtimestamp(time.time(), tz)

    datetime.datetime = Backwards


def stop_in_save(number: int) -> None:
    """Let `torch.save` write half of the `number`-th resume.pt, and then wait for ever."""
    import torch

    save, saved = torch.save, []

    def save_half(content: Any, file: io.BufferedWriter) -> None:
        saved.append("resume.pt" in str(file.name))
        if sum(saved) < number or not saved[-1]:
            save(content, file)
            return
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()
        print(HALF_WRITTEN, flush=True)
        signal.pause()

    torch.save = save_half


if __name__ == "__main__":
    serve()
