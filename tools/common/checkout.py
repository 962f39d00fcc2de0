"""Which code a result was made with."""

from __future__ import annotations

import subprocess
from typing import Any

from .paths import ROOT

CODE = ("bundles", "tools")  # what a run executes


def checkout() -> dict[str, Any]:
    """The commit of this checkout ("unknown" outside of git), and whether its code was changed since ("dirty")."""
    return {"commit": _git("rev-parse", "HEAD") or "unknown", "dirty": bool(_git("status", "--porcelain", "--", *CODE))}


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
