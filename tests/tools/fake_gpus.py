"""A machine with GPUs as NVIDIA's programs tell of them: scripts in their place, which note their calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.common import gpus

VARIABLES = (gpus.VISIBLE, gpus.PIPES, gpus.LOGS)
# Notes its arguments, its variables and what it reads, in one line.
CONTROL = """\
told = '|'.join([' '.join(sys.argv[1:]) or sys.stdin.read().strip(), *(os.environ.get(key, '') for key in {keys})])
open({calls!r}, 'a').write(told + '\\n')
"""


class Machine:
    """Takes the place of this one: no GPU, and no MPS, unless a test says so.

    Args:
        folder: for the programs, the only one that processes of the test search.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.calls = folder / "programs", folder / "calls"
        self.folder.mkdir()
        self.usual_pipes = folder / "usual"
        monkeypatch.setenv("PATH", str(self.folder))
        for key in VARIABLES:
            monkeypatch.delenv(key, raising=False)
        monkeypatch.setattr(gpus, "USUAL_PIPES", self.usual_pipes)
        monkeypatch.setattr(gpus, "PROBE", (sys.executable, "-c", ""))

    def has(self, *names: str) -> None:
        """GPUs of these UUIDs, and parts of those that come before them."""
        lines = [f"{'  MIG 1g.5gb' if name.startswith('MIG') else 'GPU 0'}: card (UUID: {name})" for name in names]
        self._program("nvidia-smi", f"assert sys.argv[1:] == ['-L']; print({chr(10).join(lines)!r})")

    def has_mps(self, fault: str = "") -> None:
        """MPS can be started, or fails to with this message."""
        note = CONTROL.format(keys=VARIABLES, calls=str(self.calls))
        self._program("nvidia-cuda-mps-control", note + (f"sys.exit({fault!r})" if fault else ""))

    @property
    def called(self) -> list[list[str]]:
        """For each call of MPS what it is told, the GPUs that it sees, and its two folders."""
        return [line.split("|") for line in self.calls.read_text().splitlines()] if self.calls.exists() else []

    def _program(self, name: str, code: str) -> None:
        file = self.folder / name
        file.write_text(f"#!{sys.executable} -S\nimport os, sys\n{code}\n")
        file.chmod(0o755)
