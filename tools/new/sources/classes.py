"""The names of the classes: a file that the user gives, or "labels" of a dataset.json."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError, first_few
from scripts.files import read_json
from scripts.validation import problems, shown

from ...common.findings import Findings

BACKGROUND = {"background", "bg", "clear label", "none", "nothing", "other"}
MOST_BYTES = 2**20
MOST_NUMBER = 65_535
MOST_DIGITS = 18
EXPECTED = "classes as `1 name` or `1,name` a line, a JSON object {'1': 'name'}, or ITK-SNAP's label descriptions"
LINE = re.compile(r"(\d+)\s*[,;:\s]\s*(.+)")
ITK_SNAP = re.compile(r'(\d+)(?:\s+[\d.]+){6}\s+"(.*)"')


def read_classes(path: Path, findings: Findings) -> dict[int, str] | None:
    """The classes of a file (see EXPECTED) by number, without background; None, with the reason in `findings`."""
    try:
        if path.suffix.lower() == ".json":
            content = read_json(path, "list of classes")
            labels = content.get("labels", content)  # a dataset.json will do
            return classes_of(labels, path, findings)
        return _checked(_lines(path), path, findings)
    except UserError as error:
        findings.error(error, "correct the file")
        return None


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbers and names of a text file."""
    try:
        if not os.path.isfile(path):
            raise UserError(f"{path}: expected {EXPECTED}, found no such file")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: expected {EXPECTED}, found {path.stat().st_size} bytes")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: expected {EXPECTED}, found: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected {EXPECTED}, found text that is not UTF-8") from None
    found = []
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    for number, line in [(number, line) for number, line in rows if line and not line.startswith("#")]:
        match = ITK_SNAP.fullmatch(line) or LINE.fullmatch(line)
        if match:
            found.append((int(match[1][:MOST_DIGITS]), match[2].strip().strip('"')))
        elif found or re.search(r"\d", line):  # else a heading
            raise UserError(f"{path}: expected {EXPECTED}, found {shown(line)} in line {number}")
    return found


def classes_of(labels: Any, path: Path, findings: Findings) -> dict[int, str] | None:
    """Classes as {number: name} or {name: number}, as both forms of dataset.json have them; see `read_classes`."""
    if not isinstance(labels, Mapping) or not labels:
        findings.add(path, "classes, as an object of numbers and names", shown(labels), "correct the file")
        return None
    if all(re.fullmatch(r"[0-9]{1,18}", key) for key in labels):
        pairs: list[tuple[Any, Any]] = [(int(key), name) for key, name in labels.items()]
    else:
        pairs = [(number, name) for name, number in labels.items()]
    ignored = [name for _, name in pairs if isinstance(name, str) and name.casefold() == "ignore"]
    regions = [name for number, name in pairs if isinstance(number, list) and name not in ignored]
    for kind, names in (("label to ignore", ignored), ("region of several numbers", regions)):
        if names:
            fix = "give every voxel one class of its own" if regions else "label these voxels, or leave out their cases"
            findings.add(path, "a number for each class", f"a {kind} ({first_few([*map(shown, names)])})", fix)
    odd = [(n, name) for n, name in pairs if type(n) is not int or not isinstance(name, str)]
    if odd and not regions:
        found = f"{shown(odd[0][1])}: {shown(odd[0][0])}"
        findings.add(path, "a number and a name for each class", found, "correct the file")
    return None if odd or ignored else _checked(pairs, path, findings)


def _checked(pairs: Iterable[tuple[int, str]], path: Path, findings: Findings) -> dict[int, str] | None:
    pairs = [(number, name.strip()) for number, name in pairs]
    before = len(findings.lines)
    for values, what in (([str(n) for n, _ in pairs], "number"), ([name.casefold() for _, name in pairs], "name")):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            findings.add(path, f"each {what} once", f"{first_few([*map(shown, twice)])} twice", "correct the file")
    for number, name in pairs:
        if (number == 0) != (name.casefold() in BACKGROUND):
            found = f"{number} {shown(name)}"
            findings.add(path, "0, and only 0, to be the background", found, "correct the file, or the labels")
        elif not 0 <= number <= MOST_NUMBER:
            findings.add(path, f"numbers from 0 to {MOST_NUMBER}", str(number), "correct the file, or the labels")
        elif problems({str(number): name}, "datalist", "labels"):
            findings.add(path, "a name in one line", f"{number} {shown(name)}", "correct the file")
    classes = {number: name for number, name in sorted(pairs) if number}
    if not classes:
        findings.add(path, "at least one class besides background", "none", "name the classes of the labels")
    return classes if len(findings.lines) == before else None
