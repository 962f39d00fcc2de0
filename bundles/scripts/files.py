"""Files and folders that are written whole or not at all, and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import DISK_ADVICE, UserError

# Of a JSON file: more than any that is meant, and little enough to be read without harm.
MOST_BYTES = 2**28
MOST_NESTED = 100
MOST_DIGITS = 19  # with the sign


@contextlib.contextmanager
def replacing(path: str | Path, what: str) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends, and vanishes when it fails.

    Whatever happens meanwhile leaves the old file or the complete new one. The folder is made if it is missing.

    Args:
        path: the file to write or replace.
        what: what the file is, for the error.

    Raises:
        UserError: the file cannot be written, for example for lack of space.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with telling(path, what):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends, and vanishes when it fails.

    Args:
        path: the folder to make.
        replace: whether it takes the place of a folder that is there. One process at a time may write it then, and
            what a killed one left is removed. Without, several may make the same folder at once: the first one to end
            keeps it, and a killed one leaves a folder named *.partial beside it.
    """
    partial = path.with_name(f".{path.name}.partial" if replace else f"{path.name}.{uuid.uuid4().hex}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if replace and path.exists():
            shutil.rmtree(path)
        try:
            partial.rename(path)
        except OSError:
            if replace or not path.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def telling(path: Path, what: str) -> Iterator[None]:
    """Tell a user why `path` cannot be written in this block; `what` says what it is.

    Raises:
        UserError: it cannot be written, for example for lack of space.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):  # torch wraps the error of a failed write
            cause = cause.__context__
        if cause is None:
            raise
        found = DISK_ADVICE.get(cause.errno or 0, f"{cause.strerror or cause}; choose another folder")
        raise UserError(f"{path}: expected to write {what}, found: {found}") from error


def write_json(path: str | Path, content: Mapping[str, Any], what: str = "a JSON file") -> None:
    """Write a JSON object, whole or not at all; `what` says what the file is, for the error."""
    with replacing(path, what) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; of large files, too, without reading them into memory."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a JSON object from a file; `kind` names the file's role in the error.

    Raises:
        UserError: no JSON (`read_json_value`), or no object.
    """
    content = read_json_value(path, kind)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a {kind} (a JSON object), found a {type(content).__name__}")
    return content


def read_json_value(path: str | Path, kind: str) -> Any:
    """Read a JSON file, whatever it holds; `kind` names the file's role in the error.

    Raises:
        UserError: the file is missing, is no regular file, or does not hold JSON; a key stands twice in an object; a
            number is not finite or has more than 18 digits before the point; more than 100 lists and objects lie in
            one another.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        if twice:
            names = ascii(", ".join(twice))[1:-1]
            raise UserError(f"{path}: expected each key once, found {names} twice; remove one of the two")
        return dict(pairs)

    try:
        if not Path(path).is_file():  # a pipe or a device may never end
            raise UserError(f"{path}: expected a {kind}, found no such file; check the path or run `prepare`")
        if Path(path).stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES // 2**20} MiB")
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(
            text, object_pairs_hook=unique, parse_int=_whole, parse_float=_finite, parse_constant=_finite
        )
        if not _ends_within(content, MOST_NESTED):
            raise ValueError(f"more than {MOST_NESTED} lists and objects in one another")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: expected a {kind}, found: {error.strerror}; check who may read it") from None
    except (ValueError, RecursionError) as error:  # no JSON or no text, or what it holds goes too far
        raise UserError(f"{path}: expected a {kind} in JSON, found text that does not parse ({error})") from None
    return content


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]}, which is no finite number")
    return number


def _ends_within(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_ends_within(one, levels - 1) for one in inner)
