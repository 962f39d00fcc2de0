"""The command line: verbs, help, exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools.__main__ import VERBS, main

ROOT = Path(__file__).parents[2]


def test_help_names_every_verb_without_heavy_imports() -> None:
    code = (
        "import sys; from tools.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'torch', 'monai', 'numpy', 'nibabel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stdout.endswith("[]\n")


def test_module_runs_as_a_program_and_exits_with_2_after_a_user_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools", "prepare", "acdc", "--source", str(tmp_path / "no"), "--output", "x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no such folder" in done.stderr


@pytest.mark.parametrize(("typed", "meant"), [("prepair", "prepare"), ("phantoms", "phantom")])
def test_unknown_verb_is_answered_with_the_closest_one(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed]) == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_unknown_verb_unlike_any_other_is_answered_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zzz"]) == 2
    error = capsys.readouterr().err
    assert all(verb in error for verb in VERBS)


def test_unknown_data_set_is_answered_with_the_closest_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "acdd", "--source", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "did you mean 'acdc'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["phantom", "prepare", "segment"])
def test_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([verb, "--help"])
    assert leaving.value.code == 0
    assert f"python -m tools {verb}" in capsys.readouterr().out


def test_full_disk_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []

    def full(path: Path, data: bytes) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        with path.open("wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    output = tmp_path / "out"
    assert main(["phantom", "--kind", "heart", "--output", str(output), "--size", "32", "32", "4"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no space left on the disk" in error
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(path: Path, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="Input/output error"):
        main(["phantom", "--kind", "heart", "--output", str(tmp_path / "out"), "--size", "32", "32", "4"])


def test_full_gpu_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["phantom", "--kind", "heart", "--output", str(tmp_path / "out"), "--size", "32", "32", "4"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: GPU memory: expected room for a step (")
