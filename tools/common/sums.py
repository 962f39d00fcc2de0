"""A folder's own list of hashes: what is in it, and whether it is still as it was written."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError
from scripts.files import sha256

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> list[str]:
    """Write the hash of every file of a folder into its SHA256SUMS; returns the files' names."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(folder / file)}  {file}\n" for file in files)
    (folder / SUMS).write_text(sums, encoding="utf-8")
    return files


def expect_replaceable(folder: Path, what: str) -> None:
    """Make sure that a folder is not there, or was written by an earlier call and is unchanged.

    Raises:
        UserError: anything else, which may exist nowhere else.
    """
    if folder.exists() and (changed := _changed(folder)):
        raise UserError(
            f"{folder}: expected no such folder, or an unchanged {what} to replace, found {len(changed)} new, changed "
            f"or missing files (first: {changed[0]}); move them or choose another --output"
        )


def _changed(folder: Path) -> list[str]:
    """What differs from the folder's list of hashes, caches of Python apart; the list itself if it is missing."""
    if not (folder / SUMS).is_file():
        return [SUMS]
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    listed = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    there = {file for file in there if "__pycache__" not in file} - {SUMS}
    differing = {file for file in there & listed.keys() if sha256(folder / file) != listed[file]}
    return sorted((there ^ listed.keys()) | differing)
