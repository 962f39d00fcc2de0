"""Damaged descriptions and lists of data sets: what is wrong is told in lines, and nothing is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz.fuzzing import INPUTS, WrongError, fuzz
from tests.fuzz.test_json import damaged
from tests.tools.new.test_described import DECATHLON, NNUNET
from tests.tools.new.trees import make
from tools.common.findings import Findings
from tools.new.sources import find_cases

CLASSES = {"labels": {"background": 0, "left kidney": 2, "spleen": 1}}
LIST = {"cases": [{"image": f"imagesTr/liver_{n}.nii.gz", "patient": n, "id": f"x{n}"} for n in range(3)]}
LIST["cases"][0] |= {"label": "labelsTr/liver_1.nii.gz", "role": "train"}
KINDS = {"nnU-Net": (NNUNET, "dataset.json"), "Decathlon": (DECATHLON, "dataset.json"), "list": (LIST, "c.json")}
KINDS |= {"classes": (CLASSES, "classes.json")}
NAMES = [f"imagesTr/liver_{n}.nii.gz" for n in range(3)] + ["labelsTr/liver_1.nii.gz", "imagesTs/liver_9.nii.gz"]


@INPUTS
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_description_is_taken_or_told_in_lines(kind: str, inputs: int, tmp_path: Path) -> None:
    content, name = KINDS[kind]
    endings = ("_0000", "_0001") if kind == "nnU-Net" else ("",)
    make(tmp_path, *(n.replace(".", f"{e}.", 1) if n.startswith("images") else n for n in NAMES for e in endings))
    images = tmp_path / name if kind == "list" else tmp_path
    classes = tmp_path / name if kind == "classes" else None

    def attempt(draw: np.random.Generator) -> str:
        (tmp_path / name).write_bytes(damaged(draw, content))
        return told(images, classes)

    fuzz(inputs, attempt)


@INPUTS
def test_damaged_table_is_taken_or_told_in_lines(inputs: int, tmp_path: Path) -> None:
    make(tmp_path, *NAMES)
    rows = ["id,image,label,patient,role", "y,imagesTs/liver_9.nii.gz,labelsTr/liver_1.nii.gz,9,"]
    rows += [f"x{n},imagesTr/liver_{n}.nii.gz,,{n},train" for n in range(3)]
    text = "\n".join(rows).encode()

    def attempt(draw: np.random.Generator) -> str:
        raw = bytearray(text)
        for _ in range(draw.integers(1, 5)):
            raw[draw.integers(len(raw))] = [*b',;\t\n"\0\r', draw.integers(256)][draw.integers(8)]
        (tmp_path / "c.csv").write_bytes(raw)
        return told(tmp_path / "c.csv", None)

    fuzz(inputs, attempt)


def told(images: Path, classes: Path | None) -> str:
    findings = Findings()
    source: Any = find_cases(images, None, None, classes, findings)
    if odd := [line for line in [*findings.lines, *findings.notes] if not line.isprintable()]:
        raise WrongError(f"a line expected: {odd[0]!r}")
    if not findings.lines and not any(case.label for case in source.cases):
        raise WrongError("a data set without a label was taken")
    return "told" if findings.lines else "taken"
