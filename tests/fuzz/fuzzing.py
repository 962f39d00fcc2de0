"""Feeds many damaged inputs to a reader, each made from its number alone, and gathers what goes wrong."""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import pytest

from scripts.errors import UserError

SECONDS = 2.0  # of computing, for one input
MEGABYTES = 100  # by which one input may raise the most memory that the process has had
SHOWN = 12  # failures of different kinds

# A test with this parameter runs a few inputs in the default suite, and all of them in `make fuzz`.
INPUTS = pytest.mark.parametrize(
    "inputs", [50, pytest.param(int(os.environ.get("FUZZ_INPUTS", "5000")), id="all", marks=pytest.mark.fuzz)]
)


class TooLongError(BaseException):
    """An input takes too long; no reader takes it for an error of a file."""


class WrongError(Exception):
    """What a reader returns is not what it promises."""


def fuzz(inputs: int, attempt: Callable[[np.random.Generator], str]) -> None:
    """Make the inputs 0, 1, ... and have each read; print how many ended how.

    Args:
        inputs: how many.
        attempt: draws an input, has it read and says how that ended, in a word or two.

    Raises:
        AssertionError: other errors than a UserError of one line, too much time or memory; the first number of each.
    """
    ends: Counter[str] = Counter()
    failures: dict[str, str] = {}
    start = time.monotonic()
    logging.disable()  # what the libraries log of thousands of files would be most of the memory
    for number in range(inputs):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with time_limit(SECONDS if number else 20 * SECONDS):  # the first one imports, too
                end = attempt(np.random.default_rng(number))
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            if number and grown > MEGABYTES:
                raise WrongError(f"{grown:.0f} MB more memory")
        except (Exception, TooLongError) as error:
            end = f"failed: {type(error).__name__}"
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
            place = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in ours[:-3:-1])
            kind = f"{type(error).__name__} in {place}"
            what = re.sub(r"\d+", "", str(error)) if isinstance(error, WrongError) else ""
            failures.setdefault(kind + what, f"input {number}: {kind}: {str(error)[:400]!r}")
        ends[end] += 1
    logging.disable(logging.NOTSET)
    print(f"{inputs} inputs in {time.monotonic() - start:.0f} s: {dict(sorted(ends.items()))}")
    assert not failures, "\n".join([f"{len(failures)} kinds of failures", *list(failures.values())[:SHOWN]])


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop what computes for too long; the time of other processes does not count."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"more than {seconds:g} s")

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def refusal(read: Callable[[], object]) -> str | None:
    """The line in which a reader refuses an input; None if it takes it.

    Raises:
        WrongError: a refusal that is not one line of what is printable.
    """
    try:
        read()
    except UserError as error:
        line = str(error)
        if not line.isprintable():
            raise WrongError(f"a refusal in one line expected: {line!r}") from None
        return line
    return None
