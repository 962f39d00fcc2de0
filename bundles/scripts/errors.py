"""Mistakes that a user can make and mend, and how they are told."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any


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
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def first_few(names: Sequence[str], most: int) -> str:
    """The first names of a long list, and how many more there are, as part of a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
        error = error.__cause__ or error.__context__
    return None


def expect_one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Make sure that a setting has one of its values, before anything depends on it.

    Raises:
        UserError: another value.
    """
    known = list(allowed)
    if value not in known:
        raise UserError(f"{name}: expected a known value, found {value!r}; {did_you_mean(str(value), known)}")


def expect_at_least(name: str, value: float, least: float) -> None:
    """Make sure that a number is not too small.

    Raises:
        UserError: a smaller one.
    """
    if value < least:
        raise UserError(f"{name}: expected at least {least:g}, found {value!r}")


def expect_volume_settings(spacing: Sequence[float], window: Sequence[float], overlap: float | Sequence[float]) -> None:
    """Make sure that the grid, the intensities and the windows of a 3D bundle make sense, before data are read.

    Args:
        spacing: mm per axis, above 0.
        window: the intensities that become 0 and 1, the lower first.
        overlap: share of a window that the next one covers again, from 0 to below 1; one number or one per axis.

    Raises:
        UserError: the first of them that does not.
    """
    if len(spacing) != 3 or not all(mm > 0 for mm in spacing):
        raise UserError(f"spacing: expected three numbers of mm above 0, found {list(spacing)}; set `spacing`")
    if len(window) != 2 or not window[0] < window[1]:
        raise UserError(f"window: expected two intensities, the lower first, found {list(window)}; set `window`")
    shares = [overlap] if isinstance(overlap, int | float) else list(overlap)
    if len(shares) not in (1, 3) or not all(0 <= share < 1 for share in shares):
        raise UserError(f"overlap: expected shares from 0 to below 1, found {overlap}; set `overlap`")


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

    sys.excepthook = hook
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


def as_flag(name: str, value: object) -> bool:
    """A switch as a command line hands it over: MONAI passes `true` and `false` on as words, and every word is true.

    Raises:
        UserError: neither a bool nor one of these words.
    """
    if isinstance(value, bool):
        return value
    flag = {"true": True, "false": False}.get(str(value).lower()) if isinstance(value, str) else None
    if flag is None:
        raise UserError(f"{name}: expected true or false, found {value!r}")
    return flag
