"""From a datalist to findings and a fingerprint: every file is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from scripts.data.channels import files_of
from scripts.data.datalists import patients_by_role
from scripts.errors import UserError
from scripts.files import read_json
from scripts.validation import problems

from ..common.case_files import CaseFiles, read_case, read_further
from ..common.findings import Findings
from .checks import Case, check_all, check_case
from .facts import facts_of
from .findings import ERROR, WARNING, Finding

ANEW = "make the datalist anew"


def examine(
    datalist: Path, split: Path | None, percent: float | None, workers: int, done: Callable[[], None]
) -> tuple[list[Finding], dict[str, Any]]:
    """Look at every case of a datalist.

    Args:
        datalist: the file, whose folder the cases' paths start from.
        split: split file, if the roles are known.
        percent: share of the training patients whose labels may be used; None: of any patient that has them.
        workers: how many cases are read at once.
        done: called after each case.

    Returns:
        Findings, and the fingerprint: what the data set holds, as plain values for JSON.

    Raises:
        UserError: a datalist that is missing or no JSON object.
    """
    content = read_json(datalist, "datalist")
    findings: list[Finding] = []
    names, records = _listed(content, datalist, findings)
    roles = _roles(split, percent, {str(record["patient"]) for record in records}, findings)

    def look(record: Mapping[str, Any]) -> tuple[list[Finding], Case | None]:
        found = _look(record, datalist.parent, names, content.get("modality"), roles)
        done()
        return found

    cases = []
    with ThreadPoolExecutor(workers) as pool:
        for problems, case in pool.map(look, records):
            findings += problems
            if case is not None:
                cases.append(case)
                findings += check_case(case)
    findings += check_all(cases, names)
    return findings, _fingerprint(content, cases, names)


class _Gathered(Findings):
    """Takes what reading a case finds as findings of the doctor."""

    def __init__(self, images: Sequence[Path], findings: list[Finding]) -> None:
        super().__init__()
        self.images, self.findings = images, findings

    def add(self, file: Path, expected: str, found: str, fix: str) -> None:
        kind = "image" if file in self.images else "label"
        self.findings.append(Finding(ERROR, kind, str(file), expected, found, fix))


def _listed(
    content: Mapping[str, Any], datalist: Path, findings: list[Finding]
) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """The names of the classes, and the cases that can be looked at; of the others it is told why not."""
    wrong = set()
    for path, expected, found in problems(content, "datalist"):
        where = f"{datalist}, case {path[1]}" if path[1:] and path[0] == "cases" else str(datalist)
        expected = f"{expected} at {path[-1]!r}" if path and isinstance(path[-1], str) else expected
        findings.append(Finding(ERROR, "datalist", where, expected, found, ANEW))
        wrong.add(path[: 2 if path[:1] == ("cases",) else 1])
    whole = not wrong & {(), ("cases",)}
    cases = [case for n, case in enumerate(content["cases"]) if ("cases", n) not in wrong] if whole else []
    for name, count in Counter(str(case["id"]) for case in cases).items():
        if count > 1:
            found = f"{name} twice"
            findings.append(Finding(ERROR, "datalist", str(datalist), "each id once", found, "give each case its own"))
    counts = Counter(len(files_of(case["image"])) for case in cases)
    usual = max(counts, key=lambda count: counts[count], default=1)
    for case in cases if counts[usual] < len(cases) else ():
        if (count := len(files_of(case["image"]))) != usual:
            found, fix = f"{count} of {case['id']}", "list a file for each channel of every case"
            findings.append(Finding(ERROR, "channels", str(datalist), f"{usual} channels, as of most", found, fix))
    labels = {} if ("labels",) in wrong else content.get("labels", {})
    return {int(key): name for key, name in labels.items() if int(key)}, cases


def _roles(split: Path | None, percent: float | None, present: set[str], findings: list[Finding]) -> dict[str, str]:
    if split is None:
        return {}
    try:
        roles = patients_by_role(split, percent or 100)
        if percent is None:
            roles["train"] = roles.pop("labelled")
    except UserError as error:
        fix = "correct the split file"
        findings.append(Finding(ERROR, "split", str(split), "a split that can be used", str(error), fix))
        return {}
    for role, patients in roles.items():
        absent = [patient for patient in map(str, patients) if patient not in present]
        if absent:
            found = f"none of {len(absent)} {role} patients, such as {absent[0]}"
            fix = "prepare the whole data set, or pass a split of these patients"
            severe = WARNING if role == "test" else ERROR
            findings.append(Finding(severe, "split", str(split), "patients of the datalist", found, fix))
    return {str(patient): role for role, patients in roles.items() for patient in patients}


def _look(
    record: Mapping[str, Any], root: Path, names: Mapping[int, str], modality: Any, roles: Mapping[str, str]
) -> tuple[list[Finding], Case | None]:
    """Read a case's files, as `prepare` does, and measure them."""
    image, *further = (root / file for file in files_of(record["image"]))
    label = (
        root / str(record["label"]) if "label" in record and names else None
    )  # without names there is no rule for it
    role = roles.get(str(record["patient"]), "")
    problems: list[Finding] = []
    if "label" not in record and role in ("labelled", "validation", "test"):
        fix = "label it, or take the patient out of this role"
        problems.append(Finding(ERROR, "missing label", str(image), f"a label, of a {role} case", "none", fix))
    known = record.get("modality", modality)
    known = known if known in ("CT", "MR") else None
    ids = str(record["id"]), str(record["patient"])
    files = CaseFiles(*ids, image, label, modality=known, further=tuple(further))
    gathered = _Gathered((image, *further), problems)
    read_image, read_label = read_case(files, {0: "background", **names}, gathered)
    hashes = [read_further(path, files, read_image, gathered) for path in further]
    if read_image is None:
        return problems, None
    listed = record.get("sha256", {})
    found = [*zip((image, *further), (read_image.sha256, *hashes), files_of(listed.get("image", "")), strict=False)]
    if label is not None and read_label is not None:
        found.append((label, read_label.sha256, listed.get("label", "")))
    for path, own_hash, listed_hash in found:
        if own_hash and listed_hash and own_hash != listed_hash:
            fix = "run `prepare` again if the new file is right"
            expected = "the file that was listed"
            problems.append(Finding(WARNING, "changed file", str(path), expected, "another content", fix))
    facts = facts_of(read_image, read_label)
    shown = str(label) if read_label is not None else None
    return problems, Case(files.id, files.patient, str(image), shown, known, role, facts)


def _fingerprint(content: Mapping[str, Any], cases: Sequence[Case], names: Mapping[int, str]) -> dict[str, Any]:
    facts = [case.facts for case in cases]
    return {
        "name": str(content.get("name", "")),
        "cases": len(cases),
        "patients": len({case.patient for case in cases}),
        "labelled cases": sum(case.label is not None for case in cases),
        "roles": dict(Counter(case.role for case in cases if case.role)),
        "modalities": dict(Counter(case.modality or "unknown" for case in cases)),
        "orientations": dict(Counter(one.orientation for one in facts)),
        "voxel types": dict(Counter(one.kind for one in facts)),
        "shape": _span([one.shape for one in facts]),
        "spacing in mm": _span([one.spacing for one in facts]),
        "intensities, percentiles 0.5, 25, 50, 75, 99.5": _span([one.percentiles for one in facts]),
        "classes": {
            name: _class_row([case.facts.classes[number] for case in cases if number in case.facts.classes])
            for number, name in names.items()
        },
    }


def _span(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Smallest, median and largest of each column, to four digits."""
    if not rows:
        return {}
    columns = np.array(rows, dtype=float)
    found = {"smallest": columns.min(0), "median": np.median(columns, axis=0), "largest": columns.max(0)}
    return {key: [float(f"{value:.4g}") for value in values] for key, values in found.items()}


def _class_row(found: Sequence[Any]) -> dict[str, Any]:
    if not found:
        return {"cases": 0}
    volumes = [one.millilitres for one in found]
    numbers = {"smallest": min(volumes), "median": median(volumes), "largest": max(volumes)}
    return {"cases": len(found)} | {f"ml, {key}": float(f"{value:.4g}") for key, value in numbers.items()}
