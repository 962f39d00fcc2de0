"""The demo refuses what is not its own, and draws what was predicted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.__main__ import main
from tools.demo.pictures import draw_cases, draw_overlay


def test_unknown_bundle_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bundle", "dca_liver"]) == 2
    assert "expected one of dca_acdc" in capsys.readouterr().err


def test_folder_of_other_files_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "datalist.json").write_text("{}")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "found other files" in capsys.readouterr().err
    assert (tmp_path / "data" / "datalist.json").exists()


def test_a_short_demo_trains_scores_infers_draws_and_says_where_everything_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo"
    assert main(["demo", "--steps", "2", "--output", str(output)]) == 0
    printed = capfd.readouterr().out
    test_cases = [path.name.split(".")[0] for path in sorted((output / "images").iterdir())]
    assert test_cases
    assert [path.stem for path in sorted((output / "pictures").iterdir())] == test_cases
    assert [path.name for path in sorted((output / "predictions").iterdir())] == [f"{c}_seg.nii.gz" for c in test_cases]
    with (output / "scores" / "scores_native_mm.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == set(test_cases)
    assert len((output / "curves.csv").read_text(encoding="utf-8").splitlines()) == 2  # a heading and one validation
    for place in ("curves.csv", "scores_native_mm.csv", "model.pt", "predictions", "pictures"):
        assert place in printed
    assert "left ventricle" in printed


def test_every_predicted_case_gets_a_picture(heart_phantom: Path, tmp_path: Path) -> None:
    cases = [c for c in json.loads((heart_phantom / "datalist.json").read_text())["cases"] if "label" in c][:2]
    for case in cases:
        label = heart_phantom / case["label"]
        (tmp_path / f"{label.name.split('.')[0]}_seg.nii.gz").write_bytes(label.read_bytes())
    files = draw_cases(heart_phantom, tmp_path, tmp_path / "pictures")
    assert [f.stem for f in files] == [c["id"] for c in cases]
    for file in files:
        picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
        colour, level = np.ptp(picture, axis=2), picture.mean(2)
        assert ((colour < 5) & (level > 60) & (level < 200)).mean() > 0.05, file  # the image, in grey
        assert (colour > 30).mean() > 0.005, file  # the organs, in colour


def test_predicted_region_and_label_outline_are_both_drawn(tmp_path: Path) -> None:
    image = np.full((32, 32, 3), 100.0)
    image[0], image[-1] = 0.0, 200.0
    prediction, label = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    prediction[4:12, 4:12] = 1
    label[20:28, 20:28] = 1
    pictures = {}
    for name, pred, truth in (("both", prediction, label), ("none", 0 * prediction, None)):
        draw_overlay(tmp_path / f"{name}.png", image, pred, truth, {1: "organ"}, "case")
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
    grey = (pictures["none"].min(2) > 90) & (pictures["none"].max(2) < 170)
    assert (grey & (pictures["both"].min(2) > 230)).sum() > 500  # the outline: white where the image is grey
    coloured = (np.ptp(pictures["both"], axis=2) > 30).sum()
    assert coloured > 5 * (np.ptp(pictures["none"], axis=2) > 30).sum() > 0  # the legend alone is coloured in "none"


def test_image_prediction_and_label_lie_on_one_another(tmp_path: Path) -> None:
    empty, organ = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    organ[3:9, 20:30] = 1  # near one corner: any flip or turn moves it
    places = []
    for image, prediction, label in ((organ, empty, None), (empty, organ, None), (empty, empty, organ)):
        draw_overlay(tmp_path / "case.png", image, prediction, label, {1: "organ"}, "case")
        picture = np.asarray(Image.open(tmp_path / "case.png").convert("RGB")).max(2)
        first = picture[:, : picture.shape[1] // 3]
        dark = first < 20
        slice_1 = first[dark.mean(1) > 0.5][:, dark.mean(0) > 0.5]  # without title and legend
        drawn = np.argwhere(slice_1 > 60)
        places.append([*drawn.min(0), *drawn.max(0)])
    assert np.ptp(places, axis=0).max() < 0.04 * len(slice_1), places
