"""How work is stopped, and how that is told."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

STOPPED = 128 + signal.SIGINT  # the exit code after Ctrl-C, as shells have it


@contextlib.contextmanager
def ends_like_an_interrupt() -> Iterator[None]:
    """Being terminated raises KeyboardInterrupt as Ctrl-C does, and so does the end of the terminal's session.

    The latter only where the user minds it (not under nohup).
    """
    ends = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def killed_by(number: int) -> str:
    """What to tell of a process that a signal ended."""
    memory = "; the system does so when memory runs out" if number == signal.SIGKILL else ""
    return f"killed by signal {number} ({signal.Signals(number).name}){memory}"
