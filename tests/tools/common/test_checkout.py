"""The commit that a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.common import checkout


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commit_is_the_head_and_dirty_tells_changed_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    (tmp_path / "notes.txt").write_text("no code\n")
    assert checkout.checkout() == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "tools" / "code.py").write_text("x = 2\n")
    assert checkout.checkout()["dirty"] is True


def test_outside_of_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkout.checkout() == {"commit": "unknown", "dirty": False}
