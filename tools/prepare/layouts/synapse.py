"""The official layout of Synapse/BTCV: RawData/Training/img/imgNNNN.nii.gz with label/labelNNNN.nii.gz.

Landman et al., "Multi-Atlas Labeling Beyond the Cranial Vault - Workshop and Challenge", MICCAI 2015 (syn3193805).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...common.case_files import CaseFiles, build_cases
from ...common.findings import Findings
from .folders import find_folder, paired_files

NAME = "Synapse"
MODALITY = "CT"
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
    10: "portal and splenic veins",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}

PARTS = ("RawData/Training", "Training", ".")
EXPECTED = "img/imgNNNN.nii.gz and label/labelNNNN.nii.gz"
FIX = "pass the folder of the unpacked download (the one with RawData/) as --source"


def collect(source: Path, root: Path, allow_unlabelled: bool, findings: Findings) -> list[dict[str, Any]]:
    """The cases of a download.

    Args:
        source: folder with img/ and label/, directly or below RawData/Training/ or Training/.
        root: folder of the datalist.
        allow_unlabelled: accept images without a label.
        findings: takes whatever is wrong with the files, and notes for the user.
    """
    folder = find_folder(source, PARTS, ("img",), EXPECTED, FIX, findings)
    if folder is None:
        return []
    before = len(findings.lines)
    pairs = paired_files(folder, "img/img{}.nii.gz", "label/label{}.nii.gz", allow_unlabelled, findings)
    if not pairs and len(findings.lines) == before:
        findings.add(folder / "img", "images imgNNNN.nii.gz", "none", "download the data set again")
    files = [CaseFiles(f"img{n}", n, image, label, modality=MODALITY) for n, (image, label) in pairs.items()]
    return build_cases(files, LABELS, root, findings)
