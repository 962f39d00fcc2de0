"""The official layout of ACDC: patientNNN/patientNNN_frameFF.nii.gz with _gt.nii.gz, two annotated frames each.

Bernard et al., "Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and Diagnosis: Is the
Problem Solved?", IEEE TMI 2018.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...common.case_files import CaseFiles, build_cases
from ...common.findings import Findings

NAME = "ACDC"
MODALITY = "MR"
LABELS = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
LEFT_VENTRICLE = "3"

PARTS = (".", "training", "testing", "database/training", "database/testing")
PATIENT = re.compile(r"patient\d+")
FRAME = re.compile(r"(?P<patient>patient\d+)_frame(?P<number>\d+)(?P<label>_gt)?\.nii(\.gz)?")
EXPECTED = "folders patientNNN with patientNNN_frameFF.nii.gz and patientNNN_frameFF_gt.nii.gz"


def collect(source: Path, root: Path, allow_unlabelled: bool, findings: Findings) -> list[dict[str, Any]]:
    """The cases of a download.

    Args:
        source: folder with the patients' folders, directly or below training/ and testing/; the 4D cines and Info.cfg
            may be there or not.
        root: folder of the datalist.
        allow_unlabelled: accept a patient none of whose frames has a label.
        findings: takes whatever is wrong with the files, and notes for the user.
    """
    cases: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    for folder in _patient_folders(source, findings):
        if folder.name in seen:
            findings.add(folder, "each patient once", f"another one at {seen[folder.name]}", "remove one of the two")
            continue
        seen[folder.name] = folder
        patient_cases = build_cases(_frames(folder, allow_unlabelled, findings), LABELS, root, findings)
        _settle_phases(patient_cases, findings)
        cases += patient_cases
    return cases


def _patient_folders(source: Path, findings: Findings) -> list[Path]:
    if not source.is_dir():
        found = "a file" if source.exists() else "no such folder"
        findings.add(source, f"a folder with {EXPECTED}", found, "pass the folder of the unpacked download as --source")
        return []
    folders = sorted({f for part in PARTS for f in (source / part).glob("patient*") if _is_patient(f)})
    if not folders:
        names = sorted(entry.name for entry in source.iterdir())
        found = f"{', '.join(names[:5])}{' and more' if names[5:] else ''}" if names else "an empty folder"
        if _is_patient(source):
            fix = f"pass the folder above it, {source.parent}"
        else:
            fix = "pass the folder of the unpacked ACDC download (the one with training/ and testing/) as --source"
        findings.add(source, EXPECTED, found, fix)
    return folders


def _is_patient(folder: Path) -> bool:
    return PATIENT.fullmatch(folder.name) is not None and folder.is_dir()


def _frames(folder: Path, allow_unlabelled: bool, findings: Findings) -> list[CaseFiles]:
    images: dict[int, Path] = {}
    labels: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = FRAME.fullmatch(file.name)
        if match is None:
            continue
        kind = labels if match["label"] else images
        number = int(match["number"])
        if match["patient"] != folder.name:
            findings.add(file, f"frames of {folder.name}", f"a file of {match['patient']}", "move it to its own folder")
        elif number in kind:
            findings.add(file, "one file per frame", f"the same frame in {kind[number].name}", "remove one of the two")
        else:
            kind[number] = file
    for number in sorted(labels.keys() - images.keys()):
        findings.add(labels[number], "an image of the same frame beside it", "none", "download the patient again")
    if len(images) != 2:
        found = f"{len(images)} ({', '.join(file.name for file in images.values())})" if images else "none"
        fix = "keep the end-diastolic and the end-systolic frame" if images else "download the patient again"
        findings.add(folder, "two frames, patientNNN_frameFF.nii.gz", found, fix)
        return []
    unlabelled = sorted(images.keys() - labels.keys())
    if unlabelled and not (allow_unlabelled and not labels):
        _report_missing_labels([images[number] for number in unlabelled], bool(labels), findings)
        return []
    phases = _phases(folder, sorted(images), findings)
    return [
        CaseFiles(images[n].name.split(".")[0], folder.name, images[n], labels.get(n), phases[n])
        for n in sorted(images)
    ]


def _report_missing_labels(images: list[Path], partly: bool, findings: Findings) -> None:
    fix = "download the patient again" + ("" if partly else ", or pass --allow-unlabelled to use it without labels")
    for image in images:
        stem, suffix = image.name.split(".", 1)
        findings.add(image.with_name(f"{stem}_gt.{suffix}"), "the label of this frame", "no such file", fix)


def _phases(folder: Path, numbers: list[int], findings: Findings) -> dict[int, str]:
    """End-diastole (ED) and end-systole (ES) by Info.cfg, else by the order of the frames.

    The first frame is not always frame 01: patient090's sequence starts at frame 04, which is why frames are counted
    here in their order and never looked up by number.
    """
    by_order = dict(zip(numbers, ("ED", "ES"), strict=True))
    info = folder / "Info.cfg"
    if not info.is_file():
        return by_order
    entries = dict(re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", info.read_text(encoding="utf-8", errors="replace"), re.M))
    phases = {int(number): phase for phase, number in entries.items()}
    if sorted(phases) != numbers:
        found = ", ".join(f"{phase}: {number}" for phase, number in entries.items()) or "neither ED nor ES"
        expected = f"ED and ES to be the frames {numbers[0]} and {numbers[1]}"
        findings.add(info, expected, found, "correct or remove this file, or download the patient again")
        return by_order
    return phases


def _settle_phases(cases: list[dict[str, Any]], findings: Findings) -> None:
    """Let the labels decide where they contradict the named phases: the left ventricle is largest at end-diastole.

    An Info.cfg can name the later frame as ED, as that of patient090 is said to do, though its labels show the larger
    left ventricle in the earlier frame, 04. So a download gives the same datalist with and without Info.cfg.
    """
    volume = {case["phase"]: case["voxels"][LEFT_VENTRICLE] for case in cases if "voxels" in case}
    if len(volume) < 2 or volume["ED"] >= volume["ES"]:
        return
    for case in cases:
        case["phase"] = {"ED": "ES", "ES": "ED"}[case["phase"]]
    diastole = next(case["id"] for case in cases if case["phase"] == "ED")
    findings.note(
        f"{diastole} is taken as end-diastole, against Info.cfg or the order, for its left ventricle is the larger"
    )
