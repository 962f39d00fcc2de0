"""A subject of `bench` for the tests: jobs that take no time, among them some that must not give a measurement."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job, Variant


def prepare(folder: Path) -> None:
    (folder / "input.txt").write_text("4")


def returns(what: float) -> Callable[[Path], Callable[[], Any]]:
    """Adds a number to the input, which must be there."""

    def make(folder: Path) -> Callable[[], Any]:
        number = float((folder / "input.txt").read_text()) + what

        def run() -> dict[str, Any]:
            print("what a variant prints is not an answer")
            return {"sum": [number, math.nan], "text": "same"}

        return run

    return make


def turns(name: str) -> Callable[[Path], Callable[[], str]]:
    """Appends its name to the file that the environment's TURNS names, whenever it is called."""

    def make(folder: Path) -> Callable[[], str]:
        def run() -> str:
            with Path(os.environ["TURNS"]).open("a") as file:
                file.write(name)
            return "the same"

        return run

    return make


def holds(mib: int) -> Callable[[Path], Callable[[], str]]:
    """Needs so much memory for a moment."""

    def make(folder: Path) -> Callable[[], str]:
        return lambda: "the same" if bytearray(b"x") * (mib << 20) else ""

    return make


def later(folder: Path) -> Callable[[], Callable[[], str]]:
    """Has its result made of what it left behind."""
    return lambda: lambda: "the same"


def fails(folder: Path) -> Callable[[], Any]:
    def run() -> Any:
        raise ValueError("this variant always fails")

    return run


def is_killed(folder: Path) -> Callable[[], Any]:
    """As Linux does to a process where memory runs out."""
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def job(name: str, *made: Callable[[Path], Callable[[], Any]], **options: Any) -> Job:
    return Job(name, [Variant(f"variant {i}", make) for i, make in enumerate(made)], prepare, **options)


JOBS = (
    job("agree", returns(1), returns(1 + 1e-7), tolerance=1e-6, goal_seconds=100),
    job("disagree", returns(1), returns(1 + 1e-5), tolerance=1e-6),
    job("fail", returns(1), fails),
    job("killed", returns(1), is_killed),
    job("turns", turns("A"), turns("B")),
    job("later", later, later),
    job("memory", holds(300), holds(100)),
)
