"""Mistakes that a user can make and mend, and how they are told."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from types import TracebackType
from typing import Any

from .gpu_memory import full_gpu


class UserError(ValueError):
    """A mistake in the user's files, settings or command; its message is one line to print as it is.

    The message names what was expected, what was found, in which file, and what to do. The command lines of this
    project print it on stderr and exit with code 2.
    """


# A DataLoader's worker hands its error over as text: a new error whose message is the worker's traceback.
IN_TRACEBACK = re.compile(rf"^{re.escape(UserError.__module__)}\.UserError: (.+)$", re.MULTILINE)


# What a user can mend about the disk; any other OSError is a fault of the program and keeps its traceback.
DISK_ADVICE = {
    errno.ENOSPC: "no space left on the disk; free some, or choose an output folder on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose an output folder on another disk",
    errno.EROFS: "the disk is read-only; choose another output folder",
    errno.EACCES: "no permission; choose another folder, or have the permission granted",
    errno.EEXIST: "expected a folder, found a file; choose another output folder",
    errno.ENOTDIR: "expected a folder, found a file; choose another output folder",
}


def first_line(error: BaseException, most: int = 160) -> str:
    """What another library says is wrong, as part of a message: its first line, or its kind if it has none."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0], most)  # it may quote a file


def printable(text: str, most: int = 80) -> str:
    """What a file says, as part of a line: no character that would end or command it, and no more than is of use."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def first_few(names: Sequence[object], most: int = 5) -> str:
    """The first names of a long list, and how many more there are, as part of a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def user_message(error: BaseException | None) -> str | None:
    """What to tell the user, if the error, or one that caused it, is theirs to mend, a line per problem; else None."""
    while error is not None:
        from_worker = IN_TRACEBACK.search(str(error))
        if from_worker:
            return from_worker[1]
        if isinstance(error, UserError):
            return str(error)
        if isinstance(error, OSError) and error.errno in DISK_ADVICE:
            return f"{error.filename or 'the output'}: {DISK_ADVICE[error.errno]}"
        full = full_gpu(error)
        if full is not None:
            return full
        error = error.__cause__ or error.__context__
    return None


@cache  # a process may load many bundles, and each call would wrap what the one before it has made
def report_in_one_line() -> None:
    """Make this process end on a user's mistake with one line on stderr and exit code 2, instead of a traceback.

    MONAI's bundle runner has no such place of its own; the configs call this first in `initialize`. Every other error
    keeps its traceback.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        message = user_message(error)
        if message is None:
            sys.__excepthook__(kind, error, trace)
            return
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)  # the only way to choose the exit code here

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        message = user_message(args.exc_value)
        if message is None:
            threading.__excepthook__(args)
        else:  # TensorBoard's thread, on a full disk; the main one learns of it, and ends
            print(f"error: {message}", file=sys.stderr, flush=True)

    sys.excepthook = hook
    threading.excepthook = thread_hook
    make_record = logging.getLogRecordFactory()

    def without_traceback(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        if record.exc_info and user_message(record.exc_info[1]):  # MONAI's engines log errors before they raise them
            record.exc_info = None
        return record

    logging.setLogRecordFactory(without_traceback)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown `word`: the closest of the `known` names, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"
