"""The files of a foreign bundle, from its folder or out of an archive, one at a time and within limits.

No member is unpacked under its own name: it becomes a temporary file without one, gone when the next one comes.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from scripts.errors import UserError, first_line

from .findings import shown

MOST_ENTRIES = 10_000
IN_MEMORY = 64 * 1024 * 1024
# How far an archive may expand: by this factor, and at least to what a small one may hold.
MOST_EXPANSION, SMALL = 100, 64 * 1024 * 1024
DECOMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
# What damaged and crafted archives make of their readers; a RuntimeError is an encrypted member.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    MemoryError,
)


class Budget:
    """The bytes that an archive may hold, archives in it included.

    Args:
        size: of the archive, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = self.most = max(size * MOST_EXPANSION, SMALL)
        self._size = size

    def spend(self, count: int) -> None:
        """Take bytes off, or raise UserError where so many are not left."""
        self.left -= count
        if self.left < 0:
            found = "that it expands to more; do not unpack it"
            raise UserError(f"expected an archive of {self._size} bytes to hold at most {self.most}, found {found}")


class Entry(NamedTuple):
    """A file of a bundle.

    Args:
        name: its path, as the archive gives it; "" for the archive itself.
        content: None where there is none to read.
        problems: what is wrong with it as a file.
        budget: what it may expand to, if it is an archive.
        script: whether it is part of a TorchScript program.
    """

    name: str
    content: IO[bytes] | None
    problems: list[str]
    budget: Budget
    script: bool = False


def entries(path: Path) -> Iterator[Entry]:
    """The files of a folder, or of an archive (zip, tar, tar.gz, tar.bz2, tar.xz; told by its content).

    Raises:
        UserError: neither, damaged, or larger than what is read.
    """
    if path.is_dir():
        yield from _folder(path)
    elif path.is_file():
        with telling(str(path)), path.open("rb") as file:
            budget = Budget(path.stat().st_size)
            head, is_zip = file.read(512), zipfile.is_zipfile(file)
            is_tar = is_tar_head(head) or not is_zip
            if is_tar:
                yield from _tar(file, budget)
            if is_zip:
                yield from zip_entries(file, budget)
    else:
        raise UserError(f"{path}: expected a bundle (a folder, or an archive of one), found no such file")


@contextlib.contextmanager
def telling(name: str) -> Iterator[None]:
    """Tell what cannot be read in this block as a user's error."""
    try:
        yield
    except UserError:
        raise
    except UNREADABLE as error:
        found = f"{shown(first_line(error))}; do not use this bundle"
        raise UserError(f"{shown(name)}: expected a file or an archive that can be read, found: {found}") from error


def _count(number: int) -> None:
    if number > MOST_ENTRIES:
        raise UserError(f"expected a bundle of at most {MOST_ENTRIES} files, found more; do not use it")


def _folder(root: Path) -> Iterator[Entry]:
    top, count = root.resolve(), 0

    def failed(error: OSError) -> None:
        raise UserError(f"{shown(str(error.filename))}: expected a folder that can be read, found: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=failed):
        folders.sort()
        for name in sorted([*files, *folders]):
            count += 1
            _count(count)
            path = Path(folder, name)
            inside = path.relative_to(root).as_posix()
            about = path.lstat()
            budget = Budget(about.st_size)
            if stat.S_ISLNK(about.st_mode):
                if not path.resolve().is_relative_to(top):
                    yield Entry(inside, None, [f"is a link out of the bundle, to {shown(os.readlink(path))}"], budget)
            elif stat.S_ISREG(about.st_mode):
                with telling(inside), path.open("rb") as file:
                    yield Entry(inside, file, _name_problems(inside), budget)
            elif not stat.S_ISDIR(about.st_mode):
                yield Entry(inside, None, ["is no plain file or folder"], budget)


def zip_entries(file: IO[bytes], budget: Budget) -> Iterator[Entry]:
    """The members of a zip archive."""
    file.seek(0)
    if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
        yield Entry("", None, ["has other data before its archive, so that it can pass for two kinds of file"], budget)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _count(len(members))
        budget.spend(sum(one.file_size for one in members))
        script = any(one.filename.endswith("constants.pkl") for one in members)
        if script:
            yield Entry("", None, ["is a TorchScript program: it runs with the rights of whoever calls it"], budget)
        known: dict[str, str] = {}
        for about in members:
            name, kind = about.orig_filename, stat.S_IFMT(about.external_attr >> 16)
            problems = _name_problems(name)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                problems.append("is a link or a device, no plain file or folder")
            if not about.is_dir():
                problems += _twice(name, known)
            if about.flag_bits & 1:
                problems.append("is encrypted: nobody can look into it")
            if about.is_dir() or about.flag_bits & 1:
                yield Entry(name, None, problems, budget)
                continue
            with archive.open(about) as member, _kept(member) as content:
                yield Entry(name, content, problems, budget, script and "code" in name.split("/")[:2])


def _tar(file: IO[bytes], budget: Budget) -> Iterator[Entry]:
    file.seek(0)
    head = file.read(6)
    file.seek(0)
    reader = next((kind for magic, kind in DECOMPRESSED.items() if head.startswith(magic)), None)
    known: dict[str, str] = {}
    stream = _Bounded(reader(file) if reader else file, budget)
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        for number, about in enumerate(archive, 1):
            _count(number)
            budget.spend(about.size)
            problems = _name_problems(about.name)
            if about.issym() or about.islnk():
                problems.append(f"is a link, to {shown(about.linkname)}: what comes later can go through it")
            elif not about.isfile() and not about.isdir():
                problems.append("is a device or a pipe, no plain file or folder")
            elif about.isfile() and about.mode & 0o6000:
                problems.append("would run as its owner")
            if not about.isdir():
                problems += _twice(about.name, known)
            if not about.isfile():
                yield Entry(about.name, None, problems, budget)
                continue
            member = archive.extractfile(about)
            assert member is not None  # of a file
            with member, _kept(member) as content:
                yield Entry(about.name, content, problems, budget)


class _Bounded:
    """A stream that is not read further than its archive may expand, and never all at once."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream, self._budget = stream, budget
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        self._check(self.tell() + count)
        return self._stream.read(count)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def _check(self, position: int) -> None:
        if position > self._budget.most + tarfile.RECORDSIZE:
            self._budget.spend(position)


@contextlib.contextmanager
def _kept(member: IO[bytes]) -> Iterator[IO[bytes]]:
    """The content of a member, in a file without a name that one can move about in."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as content:
        shutil.copyfileobj(member, content)
        content.seek(0)
        yield content


def is_tar_head(head: bytes) -> bool:
    """Whether a file that begins so is a tar; where a zip ends it, too, that may be its last member's end."""
    return head[257:262] == b"ustar"


def _name_problems(name: str) -> list[str]:
    parts = name.replace("\\", "/").split("/")
    problems = []
    if parts[0] == "" or parts[0][1:] == ":":
        problems.append("has an absolute path")
    if ".." in parts:
        problems.append("has a path that leads out of its folder")
    if not name.isprintable():
        problems.append("has characters in its name that are not shown")
    return problems


def _twice(name: str, known: dict[str, str]) -> list[str]:
    """Whether a name was there before, also on disks that do not tell upper from lower case."""
    key = os.path.normpath(unicodedata.normalize("NFKC", name)).casefold()
    before = known.get(key)
    known[key] = name
    if before is None:
        return []
    if before == name:
        return ["comes twice: which one counts depends on the reader"]
    return [f"differs only by case or form from {shown(before)}"]
