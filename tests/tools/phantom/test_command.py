"""The phantom: reproducible, labelled as told, of real proportions, not solved by brightness alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from scripts.data.datalists import load_split
from tools.__main__ import main
from tools.dicom.reading import find_series
from tools.dicom.volume import read_volumes
from tools.phantom import abdomen, heart
from tools.phantom.command import make_phantom

TINY_HEART = {"cases": 2, "labelled": 1, "validation": 1, "test": 0, "size": (32, 32, 4)}


def read(folder: Path, name: str = "datalist.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_bytes_and_another_seed_other_images(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_phantom("heart", tmp_path / name, seed=seed, **TINY_HEART)
    first, second, other = (content(tmp_path / name) for name in "abc")
    assert first == second
    assert all(data[4:8] == bytes(4) for name, data in first.items() if name.endswith(".gz"))  # no time in the header
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.startswith("images"))


@pytest.mark.parametrize(("kind", "size", "modality"), [("heart", (32, 32, 4), "MR"), ("abdomen", (48, 48, 32), "CT")])
def test_dicom_series_hold_the_images_of_the_test_patients(
    tmp_path: Path, kind: str, size: tuple[int, int, int], modality: str
) -> None:
    numbers = {"cases": 1, "labelled": 1, "validation": 0, "test": 2, "size": size, "dicom": True}
    for name in ("a", "b"):
        make_phantom(kind, tmp_path / name, **numbers)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    cases = read(tmp_path / "a")["cases"]
    patients = read(tmp_path / "a", "split.json")["test"]
    found = find_series(tmp_path / "a" / "dicom")
    assert sorted(series.get("PatientID") for series in found) == patients
    for series in found:
        volumes = read_volumes(series, modality)
        images = [nib.load(tmp_path / "a" / c["image"]) for c in cases if c["patient"] == series.get("PatientID")]
        assert len(volumes) == len(images) == (2 if kind == "heart" else 1)
        for volume, image in zip(volumes, images, strict=True):
            read_back = nib.as_closest_canonical(nib.Nifti1Image(volume.values, volume.stack.affine))
            expected = nib.as_closest_canonical(image)
            assert np.array_equal(np.asarray(read_back.dataobj), np.asarray(expected.dataobj))
            assert np.allclose(read_back.affine, expected.affine, atol=1e-3)


def test_more_training_patients_do_not_change_the_first_ones(tmp_path: Path) -> None:
    make_phantom("heart", tmp_path / "few", **TINY_HEART)
    make_phantom("heart", tmp_path / "many", **(TINY_HEART | {"cases": 3}))
    few, many = content(tmp_path / "few"), content(tmp_path / "many")
    assert few["images/heart001_ED.nii.gz"] == many["images/heart001_ED.nii.gz"]
    assert few["images/heart003_ED.nii.gz"] == many["images/heart004_ED.nii.gz"]  # the validation patient


def test_unlabelled_training_patients_have_no_label_file(heart_phantom: Path) -> None:
    split = read(heart_phantom, "split.json")
    labels = {path.name.split("_")[0] for path in (heart_phantom / "labels").iterdir()}
    assert labels == {*split["train"][:2], *split["validation"], *split["test"]}
    for case in read(heart_phantom)["cases"]:
        assert ("label" in case) == ("voxels" in case) == ("label" in case["sha256"]) == (case["patient"] in labels)


@pytest.mark.parametrize("percent", [10, 50])
def test_split_gives_its_labelled_patients_under_their_true_and_under_the_wanted_percentage(
    tmp_path: Path, percent: float
) -> None:
    make_phantom("heart", tmp_path / "p", percent=10, **TINY_HEART)
    roles = load_split(tmp_path / "p" / "datalist.json", tmp_path / "p" / "split.json", percent)
    assert {role: len(items) for role, items in roles.items()} == {
        "labelled": 2,
        "unlabelled": 2,
        "validation": 2,
        "test": 0,
    }
    assert all(Path(item["image"]).is_file() for items in roles.values() for item in items)


def test_datalist_describes_its_files(abdomen_phantom: Path) -> None:
    case = next(case for case in read(abdomen_phantom)["cases"] if "label" in case)
    image = nib.load(abdomen_phantom / case["image"])
    label = voxels(abdomen_phantom / case["label"])
    assert case["shape"] == list(image.shape) == list(label.shape) == [64, 64, 48]
    assert case["spacing"] == pytest.approx(image.header.get_zooms())
    assert case["orientation"] == "LAS"
    assert case["voxels"] == {str(k): int((label == k).sum()) for k in range(1, 14)}


def test_heart_contracts_and_tapers_towards_the_apex(heart_phantom: Path) -> None:
    cases = {case["id"]: case for case in read(heart_phantom)["cases"] if "label" in case}
    for patient in {case["patient"] for case in cases.values()}:
        diastole, systole = (cases[f"{patient}_{phase}"] for phase in ("ED", "ES"))
        assert diastole["phase"] == "ED"
        for ventricle in ("1", "3"):
            assert systole["voxels"][ventricle] < 0.9 * diastole["voxels"][ventricle]
        label = voxels(heart_phantom / diastole["label"])
        for ventricle in (1, 3):
            area = [int((label[..., z] == ventricle).sum()) for z in range(label.shape[2])]
            below_base = [a for a in area if a]
            assert below_base == sorted(below_base, reverse=True)
            assert below_base[-1] < 0.75 * below_base[0]


def test_myocardium_separates_the_left_ventricle_from_everything_else(heart_phantom: Path) -> None:
    for case in read(heart_phantom)["cases"]:
        if "label" not in case:
            continue
        label = voxels(heart_phantom / case["label"])
        around = ndimage.binary_dilation(label == 3, np.ones((3, 3, 1)))
        assert set(np.unique(label[around])) == {2, 3}


def median_volumes(draws: int) -> dict[int, float]:
    size = (72, 72, 48)
    labels = [label for i in range(draws) for _, _, label in abdomen.draw(size, np.random.default_rng(i))]
    return {k: float(np.median([(label == k).sum() for label in labels])) for k in range(1, 14)}


def test_abdomen_has_the_size_ratios_of_the_real_organs() -> None:
    volumes = median_volumes(draws=6)
    litres = {6: 1600, 7: 450, 1: 250, 2: 150, 3: 150, 9: 90, 11: 85, 8: 75, 10: 30, 4: 17, 5: 13, 12: 4, 13: 4}
    for organ, expected in litres.items():
        assert 0.6 < volumes[organ] / volumes[6] / (expected / 1600) < 1.6, abdomen.LABELS[organ]
    assert 250 < volumes[6] / min(volumes.values()) < 650


def test_every_organ_is_in_every_labelled_case_even_at_the_smallest_size() -> None:
    for seed in range(4):
        for _, _, label in abdomen.draw(abdomen.SMALLEST, np.random.default_rng(seed)):
            assert set(np.unique(label)) == set(abdomen.LABELS)


def test_organs_lie_on_their_own_side_with_plausible_hounsfield_units() -> None:
    (_, image, label), *_ = abdomen.draw((64, 64, 48), np.random.default_rng(0))
    left = {k: np.argwhere(label == k)[:, 0].mean() for k in range(1, 14)}  # the first axis points left
    assert left[6] < left[8] < left[1]
    assert left[2] < left[12] < left[13] < left[3]
    assert image.min() == pytest.approx(-1000, abs=120)
    hounsfield = {k: float(np.median(image[label == k])) for k in range(1, 14)}
    assert 50 < hounsfield[6] < 130
    assert hounsfield[4] < 40 < hounsfield[8]


@pytest.mark.parametrize(("draw", "size"), [(heart.draw, (96, 96, 8)), (abdomen.draw, (64, 64, 48))])
def test_thresholds_do_not_segment(draw: Callable[..., Any], size: tuple[int, int, int]) -> None:
    """The best two thresholds for every class, chosen with the label at hand, do about as badly as on real images."""
    _, image, label = next(iter(draw(size, np.random.default_rng(1))))
    bins = np.digitize(image, np.quantile(image, np.linspace(0, 1, 200)[1:-1]))
    below = np.cumsum([0, *np.bincount(bins.ravel(), minlength=200)])
    for k in range(1, int(label.max()) + 1):
        below_in_class = np.cumsum([0, *np.bincount(bins[label == k], minlength=200)])
        chosen = below[None] - below[:, None]  # voxels between any two thresholds
        hit = below_in_class[None] - below_in_class[:, None]
        dice = (2 * hit / np.maximum(chosen + below_in_class[-1], 1)).max()
        assert dice < (0.75 if label.max() == 13 and k == 6 else 0.4)  # the liver is large


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labelled", "0"], "--labelled: expected 1 to 2 (--cases), found 0"),
        (["--labelled", "3"], "--labelled: expected 1 to 2 (--cases), found 3"),
        (["--validation", "-1"], "--validation, --test: expected 0 or more, found -1 and 4"),
        (["--size", "16", "64", "6"], "--size: expected at least 32 32 4 voxels, found 16 64 6"),
        (["--seed", "-1"], "--seed: expected 0 or more, found -1"),
        (["--percent", "0"], "--percent: expected a number above 0 and at most 100, found 0"),
    ],
)
def test_impossible_numbers_are_a_user_error_and_write_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["phantom", "--kind", "heart", "--output", str(tmp_path / "p"), "--cases", "2", *arguments]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_with_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["phantom", "--kind", "heart", "--output", str(tmp_path)]) == 2
    assert "expected a new or empty folder, found files in it" in capsys.readouterr().err
    assert content(tmp_path) == {"mine.txt": b"keep"}


def test_command_line_makes_the_data_set_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "p"
    sizes = ["--cases", "2", "--labelled", "1", "--validation", "1", "--test", "1", "--size", "32", "32", "4"]
    assert main(["phantom", "--kind", "heart", "--output", str(output), *sizes]) == 0
    printed = capsys.readouterr().out
    assert "4 patients, 8 cases, 6 of them labelled" in printed
    assert str(output / "split.json") in printed
    assert {path.name for path in output.iterdir()} == {"images", "labels", "datalist.json", "split.json"}
    assert [path.name for path in output.parent.iterdir()] == ["p"]


def test_two_channels_are_the_scan_and_another_contrast_of_it(tmp_path: Path) -> None:
    make_phantom("heart", tmp_path / "one", **TINY_HEART)
    make_phantom("heart", tmp_path / "two", **TINY_HEART, channels=2)
    for single, case in zip(read(tmp_path / "one")["cases"], read(tmp_path / "two")["cases"], strict=True):
        assert case["image"] == [f"images/{case['id']}_000{number}.nii.gz" for number in (0, 1)]
        first, second = (voxels(tmp_path / "two" / file) for file in case["image"])
        np.testing.assert_array_equal(first, voxels(tmp_path / "one" / single["image"]))
        correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
        assert abs(correlation) < 0.98
        assert second.std() > 100  # where the noise of a voxel is 25


def test_channels_and_dicom_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["phantom", "--kind", "heart", "--output", str(tmp_path / "a"), "--channels", "2", "--dicom"]
    assert main(words) == 2
    assert "--dicom: expected without --channels 2" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
