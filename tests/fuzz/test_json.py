"""Damaged datalists, splits and model.json: what a reader does not take, it refuses in a line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalists import load_split, read_datalist
from tests.fuzz.fuzzing import INPUTS, WrongError, fuzz, refusal
from tools.common.trained import class_groups, read_description, trained_settings
from tools.doctor.examine import examine

Random = np.random.Generator
CASES = [
    {"id": f"c{i}", "patient": f"p{i}", "image": "a.nii.gz", "label": "b.nii.gz", "spacing": [1.5, 1.5, 3.0]}
    | {"shape": [6, 5, 4], "modality": "MR", "sha256": {"image": "0", "label": "1"}, "voxels": {"1": 7}}
    | {"image": f"a{i}.nii.gz"}
    for i in range(4)
]
DATALIST = {"name": "x", "modality": "MR", "labels": {"0": "background", "1": "heart"}, "cases": CASES}
SPLIT = {"train": ["p0", "p1"], "validation": ["p2"], "test": ["p3"], "labelled": {"50": ["p0"]}, "source": "x"}
SPLIT |= {"validation_trains": False}
MODEL = {
    **{"method": "dca", "preset": "cpu", "network": {"width": 2}, "labelled": ["p0"], "percent": 50},
    "validation": {"epoch": 3, "mean_dice": 0.5},
    "found": {"grouping": {"groups": [[1, 2], [3]], "sizes": [1.0, 2.0, 3.0]}},
    "inference": {"method": "dca", "width": 8, "patch_size": [32, 32, 32], "spacing": [1, 1, 1], "window": [-1, 1]},
}
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        -(2**63),
        10**30,
        0.5,
        -0.0,
        1e308,
        5e-324,
        float("nan"),
        float("inf"),
    ),
    *("", "a", "p0", "c0", "\x00", "line\nbreak", "\x1b[2J", "é\u202e", "\ud800", "/", "../..", "a" * 300, "a" * 5000),
    *([], [[]], [None], [0] * 500, {}, {"": None}, {"a": {"b": [1]}}, {"_target_": "os.system"}, "$print(1)", "@x"),
    *("a0.nii.gz", "a.nii.gz/", "1e400", "%s{0}"),
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def damaged(draw: Random, content: dict[str, Any]) -> bytes:
    """A JSON object with one to three things wrong with it, as bytes."""
    content = json.loads(json.dumps(content))
    for _ in range(draw.integers(4)):
        spots = list(places(content))
        if not spots:
            break
        inside, key = spots[draw.integers(len(spots))]
        _, other = spots[draw.integers(len(spots))]
        way = draw.integers(8)
        if way == 0:
            del inside[key]
        elif way == 1:
            inside[key] = nested(inside[key], int(draw.integers(1, 150)))
        elif way == 2 and isinstance(inside, dict):
            inside[str(ODD[draw.integers(len(ODD))])[:400]] = inside.pop(key)
        elif way == 3 and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        elif way == 4 and isinstance(inside, dict):
            inside[str(other)] = copy.deepcopy(inside[key])
        else:
            inside[key] = copy.deepcopy(ODD[draw.integers(len(ODD))])
    text = json.dumps(content)
    way = draw.integers(20)
    if way == 0:
        text = text.replace('"', "'", 1)
    elif way == 1:  # a key twice
        text = "{" + text[1:-1] + ", " + text[1:-1] + "}"
    elif way == 2:
        text = text.replace("1", "1" + "0" * int(draw.integers(5000)), 1)
    elif way == 3:
        text = ("[" * int(draw.integers(100_000)) + text) if draw.integers(2) else json.dumps([content])
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if way == 4:
        raw = raw[: draw.integers(len(raw))]
    elif way in (5, 6, 7):
        for _ in range(draw.integers(1, 5)):
            raw[draw.integers(len(raw))] = draw.integers(256)
    elif way == 8:
        raw = bytearray(draw.bytes(draw.integers(200)))
    elif way == 9:
        raw = bytearray(text.encode(["utf-16", "utf-8-sig"][draw.integers(2)], "surrogatepass"))
    return bytes(raw)


def nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of four cases."""
    values = np.random.default_rng(0).integers(0, 100, (6, 5, 4)).astype(np.uint8)
    for case in CASES:
        nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / str(case["image"]))
        values = values[::-1] + np.uint8(1)
    nib.Nifti1Image((values > 50).astype(np.uint8), np.eye(4)).to_filename(tmp_path / "b.nii.gz")
    (tmp_path / "datalist.json").write_text(json.dumps(DATALIST))
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    return tmp_path


def told(read: Callable[[], object]) -> str:
    return "refused" if refusal(read) else "taken"


@INPUTS
def test_damaged_datalist_is_taken_or_refused_in_a_line(inputs: int, folder: Path) -> None:
    datalist, split = folder / "datalist.json", folder / "split.json"

    def attempt(draw: Random) -> str:
        datalist.write_bytes(damaged(draw, DATALIST))
        end = told(lambda: read_datalist(datalist))
        split_end = told(lambda: load_split(datalist, split, 50))
        if (end, split_end) == ("refused", "taken"):
            raise WrongError("a datalist that was refused was taken with a split")
        look(datalist, split, 50)
        return end

    fuzz(inputs, attempt)


@INPUTS
def test_damaged_split_is_taken_or_refused_in_a_line(inputs: int, folder: Path) -> None:
    datalist, split = folder / "datalist.json", folder / "split.json"

    def attempt(draw: Random) -> str:
        split.write_bytes(damaged(draw, SPLIT))
        percent = [50, 100, 1, 0.001, 33.3][draw.integers(5)]
        end = told(lambda: load_split(datalist, split, percent))
        look(datalist, split, percent)
        return end

    fuzz(inputs, attempt)


@INPUTS
def test_damaged_model_json_is_taken_or_refused_in_a_line(inputs: int, tmp_path: Path) -> None:
    def read() -> None:
        settings = trained_settings(read_description(tmp_path / "model.json"))
        if not json.dumps(settings, allow_nan=False) or any(str(key).startswith("_") for key in settings):
            raise WrongError(f"settings that are no plain values: {settings!r}")

    def attempt(draw: Random) -> str:
        (tmp_path / "model.json").write_bytes(damaged(draw, MODEL))
        refusal(lambda: class_groups(tmp_path / "model.json"))
        return told(read)

    fuzz(inputs, attempt)


def look(datalist: Path, split: Path, percent: float) -> None:
    """What the doctor finds is told in lines."""

    def read() -> None:
        findings, fingerprint = examine(datalist, split, percent, 1, lambda: None)
        json.dumps(fingerprint, allow_nan=False)
        lines = [f"{one.file}: {one.expected}, {one.found}; {one.fix}" for one in findings]
        if odd := [line for line in lines if not line.isprintable()]:
            raise WrongError(f"a finding in one line expected: {odd[0]!r}")

    refusal(read)
