"""Which GPU each of several processes takes, and NVIDIA's multi-process service (MPS) where some of them share one.

Nothing here touches CUDA: a process that does holds memory of the GPU for as long as it lives.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from scripts.errors import first_line

logger = logging.getLogger(__name__)

VISIBLE, PIPES, LOGS = "CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
USUAL_PIPES = Path("/tmp") / "nvidia-mps"  # where MPS is looked for, unless PIPES says
PATIENCE = 30.0  # seconds for a program of NVIDIA's
# Fails where CUDA does. Where MPS answers nobody, as in some containers, torch would see no GPU and take the CPU.
PROBE = (sys.executable, "-c", "import ctypes, sys; sys.exit(ctypes.CDLL('libcuda.so.1').cuInit(0) != 0)")


class Gpus:
    """GPUs that processes take by turns; where there are none, no environment is changed.

    Args:
        names: as CUDA_VISIBLE_DEVICES has them.
        service: variables by which a process finds MPS.
    """

    def __init__(self, names: Iterable[str] = (), service: Mapping[str, str] | None = None) -> None:
        self._processes = dict.fromkeys(names, 0)
        self._service = service or {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[Mapping[str, str]]:
        """The variables of a process that takes the GPU with the fewest of them, for as long as this is entered."""
        if not self._processes:
            yield {}
            return
        with self._lock:
            name = min(self._processes, key=self._processes.__getitem__)
            self._processes[name] += 1
        try:
            yield {VISIBLE: name, **self._service}
        finally:
            with self._lock:
                self._processes[name] -= 1


@contextlib.contextmanager
def gpus_for(workers: int, settings: Iterable[str] = (), mps: bool = True) -> Iterator[Gpus]:
    """The GPUs for some processes at the same time, and MPS for this long if they are more than the GPUs.

    A single process is left alone, and so are those whose device the user has set.

    Args:
        workers: how many processes.
        settings: the ids of the config that the user has set.
        mps: whether to start MPS.
    """
    named = any(re.split("::|#", key)[-1] == "device" for key in settings)
    names = [] if workers < 2 or named else visible_gpus()
    # MPS knows no parts of a GPU (MIG).
    if mps and 0 < len(names) < workers and not any(name.startswith("MIG-") for name in names):
        with _service(names) as variables:
            yield Gpus(names, variables)
    else:
        yield Gpus(names)


def visible_gpus() -> list[str]:
    """The GPUs, or their parts (MIG), that the user lets this process see, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get(VISIBLE)
    if chosen is not None:
        # CUDA, too, does not see what follows a name of none.
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), map(str.strip, chosen.split(","))))
    names: list[str] = []
    for name in re.findall(r"\(UUID: (\S+)\)", _listed()):
        if name.startswith("MIG-") and names and names[-1].startswith("GPU-"):
            names.pop()  # what is divided is seen in parts only
        names.append(name)
    return names


def _listed() -> str:
    """What nvidia-smi lists; nothing where there is none, or no driver."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


@contextlib.contextmanager
def _service(names: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Run MPS, and tell the variables by which a process finds it; none if it cannot be run or the user runs one."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None or PIPES in os.environ or (USUAL_PIPES / "control").exists():
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        variables = {key: tempfile.mkdtemp(dir=folder) for key in (PIPES, LOGS)}
        environment = {key: value for key, value in os.environ.items() if key != VISIBLE} | variables
        # MPS counts anew what it sees. A UUID stays the same, but a number would then name another GPU.
        if all(name.startswith("GPU-") for name in names):
            environment[VISIBLE] = ",".join(names)
        output = Path(folder, "output")
        problem = None
        try:
            problem = _problem([control, "-d"], environment, output) or _problem(PROBE, environment, output)
            if problem is not None:
                logger.warning("processes share a GPU without NVIDIA's MPS, which could not be started: %s", problem)
            yield variables if problem is None else {}
        finally:
            left = _problem([control], environment, output, "quit\n")
            if left is not None and problem is None:
                logger.warning("NVIDIA's MPS could not be stopped: %s", left)


def _problem(command: Sequence[str], environment: Mapping[str, str], output: Path, text: str = "") -> str | None:
    """Run a command with a text to read; why it failed, or None."""
    # A file: a daemon would keep a pipe open. A session of its own: Ctrl-C reaches only this process.
    with output.open("w+b") as file:
        try:
            done = subprocess.run(
                command,
                env=environment,
                input=text.encode(),
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return first_line(error)
        file.seek(0)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return None if done.returncode == 0 else lines[-1] if lines else f"exit code {done.returncode}"
