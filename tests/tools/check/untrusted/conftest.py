"""Bundles of strangers, made in the test, and the verb on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.__main__ import main

Scan = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that every attack tries to write; the test fails if one did."""
    return tmp_path / "mark"


@pytest.fixture
def scan(tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> Scan:
    """Runs `check --untrusted` on a path, or on a bundle of these files: exit code, findings and errors."""

    def run(bundle: Path | dict[str, str | bytes]) -> tuple[int, list[str], list[str]]:
        if isinstance(bundle, dict):
            root = tmp_path / "bundle"
            shutil.rmtree(root, ignore_errors=True)
            for name, content in bundle.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
            bundle = root
        before = sorted(tmp_path.rglob("*"))
        code = main(["check", "--untrusted", str(bundle)])
        assert not mark.exists(), "the bundle was executed"
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        printed = capsys.readouterr()
        *findings, summary = printed.out.splitlines() or [""]
        assert (code == 2) == (summary == "")
        return code, findings, printed.err.splitlines()

    return run
