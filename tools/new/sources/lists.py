"""A list of the cases in a file: CSV (or TSV) with a heading, or JSON, a list of objects."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError, did_you_mean
from scripts.files import MOST_BYTES, read_json_value
from scripts.validation import shown

from ...common.findings import Findings
from .described import modality_of
from .files import FOREIGN, is_nifti, stem
from .source import Case, Source

ENDINGS = (".csv", ".tsv", ".json")
KEYS = ("image", "label", "patient", "id", "role")
OF_A_DATALIST = ("modality", "spacing", "shape", "orientation", "phase", "sha256", "voxels")  # found out anew
ROLES = ("train", "validation", "test")
CORRECT = "correct the list"


def read_list(path: Path, findings: Findings) -> Source:
    """The cases of a list; paths in it start from its folder.

    Columns or keys: `image`, or `image_NAME` for each channel (in JSON, `image` may be a list, too); `label`,
    `patient`, `id`, `role`, each of which may be empty or missing.
    """
    layout = f"list {path.name}" if path.name.isprintable() else "list"
    try:
        records = _json(path) if path.suffix.lower() == ".json" else _table(path)
    except UserError as error:
        findings.error(error, CORRECT)
        return Source(layout)
    columns = list(dict.fromkeys(key for record in records for key in record))
    channels = tuple(key.removeprefix("image_") for key in columns if key.startswith("image_"))
    unknown = [key for key in columns if key not in (*KEYS, *OF_A_DATALIST) and not key.startswith("image_")]
    for key in unknown:
        fix = f"{did_you_mean(key, [*KEYS, 'image_0'])}; further columns have to go"
        findings.add(path, "known columns", shown(key), fix)
    if not records:
        findings.add(path, "at least one case", "none", CORRECT)
    elif ("image" in columns) == bool(channels):
        found = "both" if channels else "neither"
        findings.add(path, "a column image, or image_0, image_1 and so on", found, CORRECT)
        records = []
    cases = []
    for number, record in enumerate(records, 1):
        case = _case(record, channels, path, f"case {number}", findings)
        if case is not None:
            cases.append(case)
    count = max((len(case.images) for case in cases), default=1)
    channels = channels or tuple(str(number) for number in range(count))
    lacking = [case for case in cases if not case.patient]
    if 0 < len(lacking) < len(cases):
        found = f"none of {len(lacking)} cases, such as {shown(lacking[0].id)}"
        findings.add(path, "a patient of every case, or of none", found, CORRECT)
    return Source(layout, tuple(cases), channels, None, modality_of(channels))


def _json(path: Path) -> list[dict[str, Any]]:
    content = read_json_value(path, "list of cases")
    content = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise UserError(f"{path}: expected a list of cases, each an object with an image, found {shown(content)}")
    return content


def _table(path: Path) -> list[dict[str, Any]]:
    expected = "a table with a heading, in UTF-8"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES // 2**20} MiB")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        heading = lines[0] if lines else ""
        mark = next((mark for mark in ",;\t" if mark in heading), ",")
        rows = list(csv.DictReader(lines, delimiter=mark, strict=True))
    except OSError as error:
        raise UserError(f"{path}: expected {expected}, found: {error.strerror}") from None
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}: expected {expected}, found text that does not parse ({error})") from None
    names = [name.strip() for name in csv.DictReader(lines, delimiter=mark).fieldnames or []]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: expected each column once, found {shown(names)}")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise UserError(f"{path}: expected {len(names)} values in each row, found others in row {number}")
    return [{key.strip(): value.strip() for key, value in row.items()} for row in rows]


def _case(
    record: Mapping[str, Any], channels: tuple[str, ...], path: Path, where: str, findings: Findings
) -> Case | None:
    before = len(findings.lines)
    given = [record.get(f"image_{channel}") for channel in channels] if channels else record.get("image")
    images = [_file(value, where, path, findings) for value in (given if isinstance(given, list) else [given])]
    label = None if record.get("label") in (None, "") else _file(record["label"], where, path, findings)
    texts = {key: record.get(key) for key in ("id", "patient", "role")}
    for key in ("id", "patient"):
        if type(texts[key]) not in (str, int, type(None)):
            findings.add(path, f"text at {key!r} of {where}", shown(texts[key]), CORRECT)
    role = None if texts["role"] == "" else texts["role"]
    if role is not None and role not in ROLES:
        findings.add(path, f"a role of {where}, one of {', '.join(ROLES)}", shown(role), CORRECT)
    if not images:
        findings.add(path, f"an image of {where}", "none", CORRECT)
    files = tuple(image for image in images if image is not None)
    if len(findings.lines) > before:
        return None
    name, patient = ("" if texts[key] is None else str(texts[key]) for key in ("id", "patient"))
    return Case(name or stem(files[0]), patient, files, label, role)


def _file(value: Any, where: str, path: Path, findings: Findings) -> Path | None:
    expected = f"the path of a NIfTI file of {where}"
    if not isinstance(value, str) or not value or "\0" in value:
        findings.add(path, expected, "none" if value in (None, "") else shown(value), CORRECT)
        return None
    file = Path(os.path.normpath(path.parent / value))
    if not is_nifti(file):
        fix = FOREIGN.get(file.suffix.lower(), "convert it to NIfTI")
        findings.add(path, expected, shown(value), f"{fix}, and correct the list")
        return None
    return file
