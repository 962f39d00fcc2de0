"""What each file of a foreign bundle is, by its content rather than its name, and what there is to say about it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scripts.errors import UserError

from .configs import MOST_BYTES, config_findings, leaves, logging_findings
from .entries import Entry, entries, is_tar_head, telling, zip_entries
from .findings import Finding, shown
from .pickles import array_findings, pickle_findings

DEEPEST_ARCHIVE = 3
CODE = (
    ".py",
    ".pyc",
    ".pyo",
    ".pyd",
    ".pyx",
    ".so",
    ".dll",
    ".pyz",
    ".dylib",
    ".exe",
    ".sh",
    ".bat",
    ".cmd",
    ".ps1",
    ".ipynb",
    ".whl",
    ".egg",
    ".jar",
)
PROGRAMS = (b"\x7fELF", b"MZ", b"#!", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa", b"\xca\xfe\xba\xbe")
ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"7z\xbc\xaf'\x1c", b"Rar!")
TEXTS = (".md", ".txt", ".rst", ".csv", ".tsv", ".html", ".svg", ".toml", ".log", ".gitignore", ".gitattributes")
# ONNX keeps the file of a large tensor as a pair of strings: the key "location" and a path (varint length, bytes).
EXTERNAL_DATA = re.compile(rb"\n\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x1f])")
CHUNK, OVERLAP = 16 * 1024 * 1024, 8 * 1024


def examine(path: Path) -> tuple[list[Finding], int]:
    """Everything in a bundle (a folder or an archive) that would run, load or reach something, and its number of files.

    Raises:
        UserError: it cannot be read, or only at the price of this machine's memory or time.
    """
    findings: list[Finding] = []
    count = 0
    for entry in entries(path):
        count += entry.content is not None
        findings += _entry(entry, "")
    return findings, count


def _entry(entry: Entry, outer: str) -> Iterator[Finding]:
    file = f"{outer}!{entry.name}" if outer and entry.name else outer or entry.name
    for problem in entry.problems:
        yield Finding(file, "", "file", "", problem)
    if entry.content is not None:
        with telling(file):
            yield from _content(file, entry.content, entry, bool(outer))


def _content(file: str, stream: IO[bytes], entry: Entry, member: bool) -> Iterator[Finding]:
    name = file.lower()
    head = stream.read(512)
    stream.seek(0)
    if name.endswith((".json", ".yaml", ".yml")):
        yield from config_findings(file, stream.read(MOST_BYTES + 1))
    elif name.endswith((".conf", ".ini", ".cfg")):
        yield from logging_findings(file, stream.read(MOST_BYTES + 1))
    elif name.endswith(CODE) or head.startswith(PROGRAMS):
        if not entry.script:  # whose archive is named as a whole
            yield Finding(file, "", "code", "", "runs where the bundle, or whoever imports it, runs it")
    elif not is_tar_head(head) and _is_zip(stream):
        yield from _zip(file, stream, entry)
    elif head.startswith(b"\x93NUMPY"):
        yield from array_findings(file, stream)
    elif is_tar_head(head) or (head.startswith(ARCHIVES) and not name.endswith(".nii.gz")):
        yield Finding(file, "", "archive", "", "is not looked into: unpack it and check it by itself")
    elif name.endswith(".onnx"):
        yield from _onnx(file, stream)
    elif not name.endswith(TEXTS) or head.startswith(b"\x80"):
        yield from pickle_findings(file, stream, member)


def _is_zip(stream: IO[bytes]) -> bool:
    found = zipfile.is_zipfile(stream)
    stream.seek(0)
    return found


def _zip(file: str, stream: IO[bytes], entry: Entry) -> Iterator[Finding]:
    if file.count("!") >= DEEPEST_ARCHIVE:
        found = "more; do not use this bundle"
        raise UserError(f"{shown(file)}: expected archives in archives up to {DEEPEST_ARCHIVE} deep, found {found}")
    for inner in zip_entries(stream, entry.budget):
        yield from _entry(inner, file)
    stream.seek(0)
    if stream.read(1) != b"P":  # what stands before the archive may be a pickle
        stream.seek(0)
        yield from pickle_findings(file, stream, member=False)


def _onnx(file: str, stream: IO[bytes]) -> Iterator[Finding]:
    before = b""
    while chunk := stream.read(CHUNK):
        data = before + chunk
        for found in EXTERNAL_DATA.finditer(data):
            length = found[1][0] & 0x7F | (found[1][1] << 7 if len(found[1]) > 1 else 0)
            path = data[found.end() : found.end() + length].decode(errors="replace")
            if leaves(path):
                yield Finding(file, "external data", "path", path, "leads out of the bundle")
        before = data[-OVERLAP:]
