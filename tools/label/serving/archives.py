"""What an uploaded archive may hold: it is checked as a whole before MONAI Label unpacks it."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from pathlib import PurePosixPath
from typing import IO

from scripts.errors import first_line

from .requests import RequestError

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")  # shutil, which unpacks, goes by the name


def check_archive(name: str, file: IO[bytes]) -> None:
    """Leave an archive alone in which every entry is a plain file or folder that stays below where it is unpacked.

    Links are refused wherever they lead, since a later entry can go through one.

    Args:
        name: of the file, whose ending says how it will be unpacked.
        file: its content; left at its start.

    Raises:
        RequestError: no archive, one that cannot be read, or an entry of another kind.
    """
    read = _zip if name.endswith(".zip") else _tar if name.endswith(TAR) else None
    if read is None:
        raise RequestError(f"{name}: expected an archive ({', '.join(TAR)}, .zip), found another ending")
    try:
        file.seek(0)
        entries = read(file)
    except Exception as error:  # whatever is wrong with it, nothing is unpacked
        raise RequestError(f"{name}: expected an archive, found what cannot be read: {first_line(error)}") from error
    for entry, plain in entries:
        path = PurePosixPath(entry)
        if not plain or path.is_absolute() or ".." in path.parts:
            raise RequestError(f"{name}: expected plain files and folders below its own, found {entry!r}")
    file.seek(0)


def _tar(file: IO[bytes]) -> list[tuple[str, bool]]:
    """The entries, and whether each is a folder, or a file that does not run as its owner."""
    with tarfile.open(fileobj=file) as archive:
        return [(one.name, one.isdir() or (one.isfile() and not one.mode & 0o6000)) for one in archive.getmembers()]


def _zip(file: IO[bytes]) -> list[tuple[str, bool]]:
    """The entries, and whether each is a file or a folder; what cannot be unpacked is an error."""
    with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged!r} is damaged")
        kinds = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made by a system that does not tell
        return [(one.filename, stat.S_IFMT(one.external_attr >> 16) in kinds) for one in archive.infolist()]
