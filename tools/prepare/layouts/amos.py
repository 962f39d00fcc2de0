"""The official layout of AMOS22: imagesTr/amos_NNNN.nii.gz with labelsTr/, Va alike, imagesTs, and a dataset.json.

Ji et al., "AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for Versatile Medical Image Segmentation", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.errors import first_few

from ...common.case_files import CaseFiles, build_cases
from ...common.findings import Findings
from .dataset_json import check_labels, check_listed, named_modalities, read_description
from .folders import find_folder, paired_files

NAME = "AMOS"
MODALITY = "CT+MR"
LABELS = {
    0: "background",
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "pancreas",
    11: "right adrenal gland",
    12: "left adrenal gland",
    13: "duodenum",
    14: "bladder",
    15: "prostate or uterus",
}
# How else dataset.json names the organs; the official one says "arota".
SPELLINGS = {
    "gall bladder": "gallbladder",
    "esophagus": "oesophagus",
    "arota": "aorta",
    "postcava": "inferior vena cava",
    "prostate uterus": "prostate or uterus",
}
LAST_CT = 500  # CT up to this id, MR above, as the data set's readme says

PARTS = (".", "amos22", "AMOS22", "amos22/amos22")
EXPECTED = "imagesTr/amos_NNNN.nii.gz with labelsTr/, and imagesVa/ with labelsVa/"
FIX = "pass the folder of the unpacked download (the one with imagesTr/) as --source"


def collect(source: Path, root: Path, allow_unlabelled: bool, findings: Findings) -> list[dict[str, Any]]:
    """The cases of a download.

    Args:
        source: folder with imagesTr/, labelsTr/, imagesVa/, labelsVa/, or with a folder amos22/ that holds them;
            imagesTs/ and dataset.json may be there or not.
        root: folder of the datalist.
        allow_unlabelled: take images without a label as well, those of imagesTs/ among them.
        findings: takes whatever is wrong with the files, and notes for the user.
    """
    folder = find_folder(source, PARTS, ("imagesTr", "imagesVa"), EXPECTED, FIX, findings)
    if folder is None:
        return []
    files = _files(folder, allow_unlabelled, findings)
    _compare_with_description(folder / "dataset.json", files, findings)
    return build_cases(files, LABELS, root, findings)


def _files(folder: Path, allow_unlabelled: bool, findings: Findings) -> list[CaseFiles]:
    files: dict[str, CaseFiles] = {}
    before = len(findings.lines)
    for part in ("Tr", "Va", "Ts"):
        image_name, label_name = (f"{kind}{part}/amos_{{}}.nii.gz" for kind in ("images", "labels"))
        pairs = paired_files(folder, image_name, label_name, allow_unlabelled or part == "Ts", findings)
        if part == "Ts" and not allow_unlabelled:
            labelled = {number: pair for number, pair in pairs.items() if pair[1]}
            if len(labelled) < len(pairs):
                count = len(pairs) - len(labelled)
                findings.note(f"images without a label in imagesTs: {count} left out; --allow-unlabelled takes them")
            pairs = labelled
        for number, (image, label) in pairs.items():
            case = _case(int(number), image, label)
            if case.id in files:
                found = f"another one at {files[case.id].image}"
                findings.add(image, "each case once", found, "remove one of the two")
            else:
                files[case.id] = case
    if not files and len(findings.lines) == before:
        findings.add(folder, EXPECTED, "no such file in these folders", "download the data set again")
    return list(files.values())


def _case(number: int, image: Path, label: Path | None) -> CaseFiles:
    name = f"amos_{number:04d}"
    if number <= LAST_CT:
        return CaseFiles(name, name, image, label, modality="CT", modality_of=f"an id up to {LAST_CT}")
    return CaseFiles(name, name, image, label, modality="MR", modality_of=f"an id above {LAST_CT}")


def _compare_with_description(path: Path, files: Sequence[CaseFiles], findings: Findings) -> None:
    if not path.is_file():
        findings.note("no dataset.json: only the ids told CT from MR, and the intensities agree")
        return
    content = read_description(path, findings)
    check_labels(path, content, LABELS, SPELLINGS, findings)
    named = named_modalities(path, content, findings)
    # The official file names only CT, though a sixth of the cases are MR: no reason to refuse the download.
    for modality in sorted({str(case.modality) for case in files} - named if named else ()):
        count = sum(case.modality == modality for case in files)
        findings.note(f"dataset.json names only {' and '.join(named)}: by their ids, {count} cases are {modality}")
    unlisted = check_listed(path, content, [case.image for case in files], findings)
    if unlisted:
        findings.note(f"images that dataset.json does not list: {len(unlisted)} ({first_few(unlisted)})")
