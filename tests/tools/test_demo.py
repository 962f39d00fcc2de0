"""The demo refuses what is not its own, and draws what was predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.__main__ import main
from tools.pictures import draw_cases, draw_overlay


def test_unknown_bundle_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bundle", "dca_liver"]) == 2
    assert "expected one of dca_acdc" in capsys.readouterr().err


def test_folder_of_other_files_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "datalist.json").write_text("{}")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "found other files" in capsys.readouterr().err
    assert (tmp_path / "data" / "datalist.json").exists()


def test_every_predicted_case_gets_a_picture(heart_phantom: Path, tmp_path: Path) -> None:
    cases = [c for c in json.loads((heart_phantom / "datalist.json").read_text())["cases"] if "label" in c][:2]
    for case in cases:
        label = heart_phantom / case["label"]
        (tmp_path / f"{label.name.split('.')[0]}_seg.nii.gz").write_bytes(label.read_bytes())
    files = draw_cases(heart_phantom, tmp_path, tmp_path / "pictures")
    assert [f.stem for f in files] == [c["id"] for c in cases]


def test_predicted_region_and_label_outline_are_both_drawn(tmp_path: Path) -> None:
    image = np.full((32, 32, 3), 100.0)
    image[0] = 0.0
    prediction, label = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    prediction[4:12, 4:12] = 1
    label[20:28, 20:28] = 1
    pictures = {}
    for name, pred, truth in (("both", prediction, label), ("none", 0 * prediction, None)):
        draw_overlay(tmp_path / f"{name}.png", image, pred, truth, {1: "organ"}, "case")
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
    coloured = (np.ptp(pictures["both"], axis=2) > 30).sum()
    assert coloured > 5 * (np.ptp(pictures["none"], axis=2) > 30).sum() > 0  # the legend alone is coloured in "none"
