"""Plain folders: images and labels find each other by their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tools.new.trees import found, labels_of, look, make
from tools.common.findings import Findings


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a.nii.gz", "a.nii.gz"),
        ("a.nii.gz", "a.nii"),
        ("a.nii.gz", "a_gt.nii.gz"),
        ("a.nii.gz", "a_seg.nii.gz"),
        ("a.nii.gz", "a-label.nii.gz"),
        ("a.nii.gz", "a_mask.NII.GZ"),
        ("a.nii.gz", "a_segmentation.nii.gz"),
        ("a_image.nii.gz", "a_label.nii.gz"),
        ("img0001.nii.gz", "label0001.nii.gz"),
        ("volume-7.nii", "segmentation-7.nii"),
        ("case_7/imaging.nii.gz", "case_7/segmentation.nii.gz"),
        ("case_7/t1.nii.gz", "case_7/mask.nii.gz"),
        ("case_7.nii.gz", "case_7/segmentation.nii.gz"),
        ("case_7/imaging.nii.gz", "case_7.nii.gz"),
        ("sub/folder/a.nii.gz", "a_gt.nii.gz"),
        ("a_0000.nii.gz", "a.nii.gz"),
        ("a_0000.nii.gz", "a_0000.nii.gz"),
    ],
)
def test_image_and_label_are_paired(image: str, label: str, tmp_path: Path) -> None:
    make(tmp_path / "images", image, "other_9.nii.gz")
    make(tmp_path / "labels", label)
    case, other = found(tmp_path / "images", tmp_path / "labels").cases
    case, other = (case, other) if case.label else (other, case)
    assert case.images == (tmp_path / "images" / image,)
    assert case.label == tmp_path / "labels" / label
    assert other.label is None


def test_one_tree_holds_images_and_labels(tmp_path: Path) -> None:
    names = [f"patient00{n}/patient00{n}_frame{f}" for n, f in ((1, "01"), (1, "12"), (2, "01"), (2, "09"))]
    make(tmp_path, *(f"{name}.nii.gz" for name in names), *(f"{name}_gt.nii.gz" for name in names[:3]))
    (tmp_path / "patient001" / "Info.cfg").write_text("ED: 1")
    expected = {Path(name).name: f"{Path(name).name}_gt.nii.gz" for name in names} | {"patient002_frame09": None}
    for labels in (None, tmp_path, Path(os.path.relpath(tmp_path))):
        assert labels_of(found(tmp_path, labels)) == expected


def test_images_beside_labels_in_folders_of_kinds(tmp_path: Path) -> None:
    make(tmp_path, "img/img1.nii.gz", "label/label1.nii.gz", "img/img2.nii.gz")
    assert labels_of(found(tmp_path)) == {"img1": "label1.nii.gz", "img2": None}
    assert labels_of(found(tmp_path, tmp_path / "label")) == {"img1": "label1.nii.gz", "img2": None}
    assert labels_of(found(tmp_path / "img", tmp_path)) == {"img1": "label1.nii.gz", "img2": None}


@pytest.mark.parametrize("folder", ["labels", "labelsTr", "masks", "GT", "sub/seg"])
def test_a_folder_may_say_alone_that_its_files_are_labels(folder: str, tmp_path: Path) -> None:
    make(tmp_path, "images/a.nii.gz", f"{folder}/a.nii.gz", "images/b.nii.gz")
    source = found(tmp_path)
    assert [(case.images[0].parent.name, case.label) for case in source.cases] == [
        ("images", tmp_path / folder / "a.nii.gz"),
        ("images", None),
    ]


def test_labels_elsewhere_take_the_place_of_those_beside_the_images(tmp_path: Path) -> None:
    make(tmp_path / "images", "a1.nii.gz", "a1_gt.nii.gz")
    make(tmp_path / "mine", "a1_gt.nii.gz")
    findings = Findings()
    source = found(tmp_path / "images", tmp_path / "mine", findings=findings)
    assert [case.label for case in source.cases] == [tmp_path / "mine" / "a1_gt.nii.gz"]
    assert not findings.lines
    assert "1 files are named as labels (a1_gt.nii.gz) and left out" in findings.notes[0]


def test_numbers_are_channels_where_labels_lack_them(tmp_path: Path) -> None:
    make(tmp_path / "i", "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    make(tmp_path / "l", "a.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l")
    assert source.channels == ("0", "1")
    assert [[path.name for path in case.images] for case in source.cases] == [
        ["a_0000.nii.gz", "a_0001.nii.gz"],
        ["b_0000.nii.gz", "b_0001.nii.gz"],
    ]
    assert [case.id for case in source.cases] == ["a", "b"]


def test_numbers_are_cases_where_labels_have_them(tmp_path: Path) -> None:
    make(tmp_path, "i/case_0000.nii.gz", "i/case_0001.nii.gz", "l/case_0001_seg.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l")
    assert source.channels == ("0",)
    assert labels_of(source) == {"case_0000": None, "case_0001": "case_0001_seg.nii.gz"}


def test_numbers_of_unlabelled_images_are_cases_where_those_of_the_others_are(tmp_path: Path) -> None:
    make(tmp_path, "i/case_0007.nii.gz", "l/case_0007.nii.gz", "u/case_0000.nii.gz", "u/case_0001.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l", tmp_path / "u")
    assert [case.id for case in source.cases] == ["case_0007", "case_0000", "case_0001"]


def test_numbers_of_a_single_channel_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "i/a_0000.nii.gz", "l/a.nii.gz", "u/b_0000.nii.gz", "u/c_0000.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l", tmp_path / "u")
    assert [case.id for case in source.cases] == ["a", "b", "c"]


def test_one_name_in_two_folders_is_told_apart_by_them(tmp_path: Path) -> None:
    make(tmp_path / "i", "p1/scan.nii.gz", "p2/scan.nii.gz")
    make(tmp_path / "l", "p1/scan.nii.gz", "p2/scan_gt.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l")
    assert [(case.id, case.patient, case.label) for case in source.cases] == [
        ("p1_scan", "p1", tmp_path / "l/p1/scan.nii.gz"),
        ("p2_scan", "p2", tmp_path / "l/p2/scan_gt.nii.gz"),
    ]


def test_unlabelled_images_have_no_label_even_if_there_is_one(tmp_path: Path) -> None:
    make(tmp_path, "i/a1.nii.gz", "l/a1.nii.gz", "u/a2.nii.gz", "u/a2_gt.nii.gz", "i/more/a3.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l", tmp_path / "u")
    assert labels_of(source) == {"a1": "a1.nii.gz", "a3": None, "a2": None}
    inside = found(tmp_path / "i", tmp_path / "l", tmp_path / "i" / "more")
    assert labels_of(inside) == {"a1": "a1.nii.gz", "a3": None}
    assert labels_of(found(tmp_path / "i", tmp_path / "l", tmp_path / "i")) == {"a1": "a1.nii.gz", "a3": None}


def test_unlabelled_images_have_the_channels_of_the_others(tmp_path: Path) -> None:
    make(tmp_path, *(f"{folder}/{name}_000{c}.nii.gz" for folder, name in (("i", "a"), ("u", "b")) for c in (0, 1)))
    make(tmp_path, "l/a.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l", tmp_path / "u")
    assert [len(case.images) for case in source.cases] == [2, 2]
    make(tmp_path, "u/c_0001.nii.gz")
    (line,) = look(tmp_path / "i", tmp_path / "l", tmp_path / "u").lines
    assert "u/c_0001.nii.gz: expected the channels _0000, _0001 of each case, found _0001; " in line


def test_links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "data" / "p1", "a1.nii.gz", "a1_gt.nii.gz")
    (tmp_path / "data" / "p1" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "p1").symlink_to(tmp_path / "data" / "p1")
    assert labels_of(found(tmp_path / "links")) == {"a1": "a1_gt.nii.gz"}
    assert labels_of(found(tmp_path / "data")) == {"a1": "a1_gt.nii.gz"}


def test_hidden_files_and_texts_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a1.nii.gz", "a1_gt.nii.gz", "._a1.nii.gz", ".cache/a2.nii.gz")
    (tmp_path / "readme.txt").write_text("read me")
    assert labels_of(found(tmp_path)) == {"a1": "a1_gt.nii.gz"}
