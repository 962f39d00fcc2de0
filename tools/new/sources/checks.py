"""What has to hold of the cases of any layout."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.errors import first_few, printable
from scripts.validation import problems

from ...common.findings import Findings
from .files import shown, tell
from .source import Case, Source


def check(source: Source, folder: Path, findings: Findings) -> None:
    """Put into `findings` what is wrong with the cases together, or with their files as such.

    Args:
        source: the cases of `folder`.
        folder: or list, where they were found, for the messages.
    """
    cases = source.cases
    if not cases:
        if not findings.lines:
            fix = "pass the folder of the NIfTI files (.nii, .nii.gz) as --images"
            findings.add(folder, "at least one image", "none", fix)
        return
    if not any(case.label for case in cases):
        fix = "pass the folder of the labels as --labels, with the names of the images"
        findings.add(folder, "a label of at least one image", f"none for {len(cases)} images", fix)
    _check_names(cases, findings)
    _check_files(cases, findings)
    _check_roles(cases, findings)
    count = 1 if source.stacked else len(source.channels)
    lacking = [case.images[0] for case in cases if len(case.images) != count]
    if not findings.lines:  # else the layout has told it
        expected = f"{count} files of a case, one per channel ({first_few(source.channels)})"
        tell(lacking, expected, "another number", "add what is missing, or leave out this case", findings)


def _check_names(cases: tuple[Case, ...], findings: Findings) -> None:
    """Ids stand once, and all texts are such that a datalist may have."""
    first: dict[str, Case] = {}
    for case in cases:
        image = case.images[0]
        if case.id in first:
            found = f"{printable(case.id)!r} of {shown(first[case.id].images[0])}, too"
            findings.add(image, "an id that no other case has", found, "rename one, or list all with ids")
        first.setdefault(case.id, case)
        texts = {"id": case.id, "patient": case.patient or "?", "image": "".join(map(str, case.images))}
        texts |= {"label": str(case.label)} if case.label else {}
        wrong = [] if _plain(texts) else problems({"cases": [texts]}, "datalist")
        if wrong:
            fix = "rename it without control characters, in UTF-8"
            findings.add(image, f"{wrong[0].expected} as its {wrong[0].path[-1]}", wrong[0].found, fix)


def _plain(record: dict[str, str]) -> bool:
    """Whether the schema, which takes its time, has nothing to say."""
    return all(text.isprintable() and 0 < len(text) <= 4000 for text in record.values())


def _check_files(cases: tuple[Case, ...], findings: Findings) -> None:
    """Files exist, and each is used once."""
    used: dict[str, str] = {}
    for case in cases:
        files = [("image", path) for path in case.images] + ([("label", case.label)] if case.label else [])
        for kind, path in files:
            if not os.path.isfile(path):
                found = "a link to nowhere" if os.path.islink(path) else "no such file"
                findings.add(
                    path, f"the {kind} of {printable(case.id)}", found, "restore the file, or correct the list"
                )
                continue
            use = f"the {kind} of {printable(case.id)}"
            before = used.setdefault(os.path.realpath(path), use)
            if before is not use:
                findings.add(path, f"a file used once, as {use}", f"it as {before}, too", "leave out one of the two")


def _check_roles(cases: tuple[Case, ...], findings: Findings) -> None:
    """The data set's own roles keep its patients apart."""
    roles: dict[str, dict[str, Case]] = {}
    for case in cases:
        if case.role:
            roles.setdefault(case.patient, {}).setdefault(case.role, case)
    for patient, found in roles.items():
        if len(found) > 1:
            told = " and ".join(f"{printable(case.id)} ({role})" for role, case in found.items())
            first = next(iter(found.values()))
            fix = "give them one role, or say whose they are with --patients"
            findings.add(first.images[0], f"one role of the patient {printable(patient)}", told, fix)
