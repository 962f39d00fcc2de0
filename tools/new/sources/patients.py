"""Whose an image is, by the names of files and folders; rather one patient too few than one patient in two roles.

A path is cut into words at `_`, `-`, dots, blanks and folders, and before a word of time such as `frame01`. The patient
is the first word with a number that is not the same in all paths, with what all have before it in the same name:
patient001_frame01 gives patient001, case_01_pre gives case_01, and CT_001 and MR_001 give one patient, 001. If no such
word has a number, it is the first one that differs. Words of time (frames, visits, phases), of places (site, centre)
of channels (T1, CT) and dates are passed over, unless there is nothing else. A name without any such word is a patient
of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from scripts.errors import printable

from ...common.findings import Findings
from .files import stem, tell
from .pairs import core_of, place_of
from .source import Case

TIMES = (
    "frame|phase|visit|timepoint|time|tp|session|ses|scan|run|echo|slice|day|week|month|year|date|baseline|followup"
    "|pre|post|before|after|ed|es|arterial|venous|portal|delayed|native|rest|stress"
)
COUNTED = "frame|phase|visit|timepoint|time|tp|session|ses|echo|slice|day|week|month|year|site|center|centre|batch|fold"
PLACES = "site|center|centre|batch|fold|part|group|train|training|val|validation|test|testing"
CHANNELS = "t1|t2|t1w|t2w|t1c|t1ce|t1gd|flair|adc|dwi|pd|ct|mr|mri|pet"
DATE = r"(19|20)\d\d(0[1-9]|1[0-2])?([0-2]\d|3[01])?"
PASSED_OVER = re.compile(rf"({TIMES}|{PLACES}|t|v)\d*|{CHANNELS}|{DATE}", re.IGNORECASE)
BEFORE_TIME = re.compile(rf"(?<=\d)(?=(?:{TIMES})(?:\d|$))", re.IGNORECASE)


class Word(NamedTuple):
    """A word of a path, and which of its folders (or its name, the last) it stands in."""

    text: str
    part: int


def name_patients(cases: Sequence[Case], roots: Sequence[Path], pattern: str | None, findings: Findings) -> list[Case]:
    """The cases with their patients: those of `pattern`, else those that the data set names, else by the rule above.

    Args:
        cases: with an empty patient where the data set does not name one.
        roots: folders that the images lie in.
        pattern: a regular expression; its first group, or all of it, where it is found in the name of an image (else
            in its path below the folder) is the patient.
        findings: takes a pattern that does not fit, and a note of what was done.
    """
    if pattern is not None:
        return _by_pattern(cases, roots, pattern, findings)
    unnamed = [case for case in cases if not case.patient]
    words = [_words(_below(case.images[0], roots), case.id) for case in unnamed]
    same = _same_for_all(words)
    named = {case.id: _patient(case, own, same) for case, own in zip(unnamed, words, strict=True)}
    found = [case if case.patient else replace(case, patient=named[case.id]) for case in cases]
    if unnamed:
        example = next(case for case in found if case.id == unnamed[0].id)
        findings.note(
            f"patients by the names of files: {len(set(named.values()))} of {len(unnamed)} images, such as "
            f"{printable(example.patient)!r} of {printable(example.images[0].name)}; --patients REGEX changes that"
        )
    return found


def _by_pattern(cases: Sequence[Case], roots: Sequence[Path], pattern: str, findings: Findings) -> list[Case]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        findings.problem("--patients", f"expected a regular expression, found {pattern!a} ({error}); correct it")
        return list(cases)
    named, lacking = [], []
    for case in cases:
        path = _below(case.images[0], roots)
        match = compiled.search(path.name) or compiled.search(path.as_posix())
        patient = (match[1] if compiled.groups else match[0]) if match else None
        if not patient:
            lacking.append(case.images[0])
        named.append(replace(case, patient=patient or ""))
    fix = "change the expression; its first group is the patient"
    tell(lacking, f"a patient by --patients {pattern!a}", "none", fix, findings)
    return named


def _below(path: Path, roots: Sequence[Path]) -> Path:
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    return Path(*place_of(path, root), path.name)


def _words(path: Path, name: str) -> list[Word]:
    name = name if path.name.startswith(name) else stem(path)  # without the number of a channel
    parts = [*path.parent.parts, core_of(name)]
    return [
        Word(word, number)
        for number, part in enumerate(parts)
        for piece in re.split(r"[\s._-]+", part)
        for word in BEFORE_TIME.split(piece)
        if word
    ]


def _same_for_all(words: Sequence[Sequence[Word]]) -> set[int]:
    """The positions that have the same word in all paths."""
    shortest = min(map(len, words), default=0)
    return {i for i in range(shortest) if len({own[i].text for own in words}) == 1}


def _patient(case: Case, words: Sequence[Word], same: set[int]) -> str:
    telling = [
        i
        for i, word in enumerate(words)
        if not PASSED_OVER.fullmatch(word.text)
        and not (i and word.text.isdecimal() and re.fullmatch(COUNTED, words[i - 1].text, re.IGNORECASE))
    ]
    varying = [i for i in telling if i not in same]
    numbers = [i for i in telling if re.search(r"\d", words[i].text)]
    chosen = next((i for i in varying if i in numbers), next(iter(varying), next(iter(numbers), None)))
    if chosen is None:
        chosen = next((i for i, word in enumerate(words) if i not in same and re.search(r"\d", word.text)), None)
    if chosen is None:
        return case.id
    start = chosen
    while start - 1 in same and words[start - 1].part == words[chosen].part:
        start -= 1
    return "_".join(word.text for word in words[start : chosen + 1])
