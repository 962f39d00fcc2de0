"""What folders may hold besides a data set, or in its place: told at once, whatever the names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tools.new.trees import found, labels_of, look, make


def test_missing_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("text")
    make(tmp_path, "i/a.nii.gz", "l/a.nii.gz")
    lines = look(tmp_path / "no", tmp_path / "file.txt", tmp_path / "nor").lines
    assert lines == [
        f"{tmp_path / 'no'}: expected a folder of images, found no such folder; correct the path",
        f"{tmp_path / 'file.txt'}: expected a folder of labels, found a file; correct the path",
        f"{tmp_path / 'nor'}: expected a folder of images, found no such folder; correct the path",
        f"{tmp_path / 'nor'}: expected unlabelled images, found none; correct the path, or leave out --unlabelled",
    ]


def test_names_that_no_disk_can_hold_are_told(tmp_path: Path) -> None:
    make(tmp_path, "i/a.nii.gz", "l/a.nii.gz")
    for place in ("images", "labels", "unlabelled", "classes"):
        given = {"images": tmp_path / "i", "labels": tmp_path / "l"} | {place: tmp_path / ("a" * 300)}
        assert look(**given).lines[0].startswith(f"{tmp_path / ('a' * 300)}: expected ")


def test_no_image_and_no_label_are_told(tmp_path: Path) -> None:
    (line,) = look(make(tmp_path / "empty")).lines
    assert line.startswith(f"{tmp_path / 'empty'}: expected at least one image, found none; pass the folder of the")
    make(tmp_path / "i", "a.nii.gz", "b.nii.gz")
    (line,) = look(tmp_path / "i").lines
    assert f"{tmp_path / 'i'}: expected a label of at least one image, found none for 2 images; pass the" in line
    (line, _) = look(make(tmp_path / "l", "label1.nii.gz")).lines
    assert "expected images, found only names of labels (label1.nii.gz); pass the folder that holds the images" in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mha", b"", "found 1 files of another format, .mha (a.mha); convert them with SimpleITK"),
        ("a.NRRD", b"", "found 1 files of another format, .nrrd (a.NRRD); convert them with SimpleITK"),
        ("a.dcm", b"", "found 1 files of another format, DICOM (a.dcm); convert each series with dcm2niix"),
        ("IM0001", bytes(128) + b"DICM", "found 1 files of another format, DICOM (IM0001); convert each series with"),
        ("1.2.840", bytes(128) + b"DICM", "found 1 files of another format, DICOM (1.2.840); convert each series with"),
        ("a.png", b"", "found 1 files of another format, .png (a.png); stack the slices"),
        ("a.npy", b"", "found 1 files of another format, .npy (a.npy); save them with nibabel"),
    ],
)
def test_other_formats_are_told_with_what_converts_them(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (line,) = look(tmp_path).lines
    assert line.startswith(f"{tmp_path}: expected images as NIfTI (.nii, .nii.gz), ")
    assert message in line


def test_pictures_beside_volumes_are_passed_over_and_scans_are_not(tmp_path: Path) -> None:
    make(tmp_path, "a.nii.gz", "a_gt.nii.gz")
    (tmp_path / "preview.png").write_bytes(b"")
    found(tmp_path)
    (tmp_path / "b.mha").write_bytes(b"")
    (line,) = look(tmp_path).lines
    assert ".mha (b.mha)" in line


def test_pairs_that_do_not_fit_are_told_together(tmp_path: Path) -> None:
    make(tmp_path / "i", "a.nii.gz", "b.nii.gz", "b.nii", "p/c.nii.gz", "q/c.nii.gz")
    make(tmp_path / "l", "a.nii.gz", "a_gt.nii.gz", "c.nii.gz", "d.nii.gz")
    (tmp_path / "i" / "e.nii.gz").symlink_to("nowhere")
    (tmp_path / "i" / "f.nii.gz").mkdir()
    text = "\n".join(look(tmp_path / "i", tmp_path / "l").lines)
    assert f"{tmp_path / 'i/e.nii.gz'}: expected a NIfTI file, found a link to nowhere; restore the files" in text
    assert f"{tmp_path / 'i/b.nii.gz'}: expected an image once, found another one at {tmp_path / 'i/b.nii'}; " in text
    assert f"{tmp_path / 'l/a_gt.nii.gz'}: expected one label of an image, found another one at " in text
    assert f"{tmp_path / 'l/c.nii.gz'}: expected one image that fits this label, found 2 (c.nii.gz, c.nii.gz)" in text
    assert f"{tmp_path / 'l/d.nii.gz'}: expected an image that fits this label, found none; rename the files" in text
    assert len(text.splitlines()) == 5


def test_many_labels_without_an_image_are_one_line(tmp_path: Path) -> None:
    make(tmp_path / "i", "a.nii.gz")
    make(tmp_path / "l", *(f"b{n}.nii.gz" for n in range(9)))
    line, _ = look(tmp_path / "i", tmp_path / "l").lines
    assert line.startswith(f"{tmp_path / 'l'}: expected an image that fits this label for each file, found none for 9")


def test_channels_that_are_missing_are_told(tmp_path: Path) -> None:
    make(tmp_path / "i", "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "c.nii.gz")
    make(tmp_path / "l", "a.nii.gz")
    two, one = look(tmp_path / "i", tmp_path / "l").lines
    assert "i/b_0001.nii.gz: expected the channels _0000, _0001 of each case, found _0001; add what is missing" in two
    assert "i/c.nii.gz: expected the channels _0000, _0001 of each case, found _0000; " in one


def test_ids_of_labelled_and_unlabelled_images_that_clash_are_told(tmp_path: Path) -> None:
    make(tmp_path, "i/1.nii.gz", "l/1.nii.gz", "u/1.nii.gz")
    (line,) = look(tmp_path / "i", tmp_path / "l", tmp_path / "u").lines
    assert line.startswith(f"{tmp_path / 'u/1.nii.gz'}: expected an id that no other case has, found '1' of ")


def test_one_file_under_two_names_is_told(tmp_path: Path) -> None:
    make(tmp_path, "i/a.nii.gz", "l/a.nii.gz")
    (tmp_path / "i" / "b.nii.gz").symlink_to(tmp_path / "i" / "a.nii.gz")
    (line,) = look(tmp_path / "i", tmp_path / "l").lines
    assert "i/b.nii.gz: expected a file used once, as the image of b, found it as the image of a, too" in line


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202eb", os.fsdecode(b"a\xff")], ids=ascii)
def test_names_that_no_datalist_may_have_are_told_in_a_printable_line(name: str, tmp_path: Path) -> None:
    make(tmp_path, "c.nii.gz", "c_gt.nii.gz")
    os.rename(tmp_path / "c.nii.gz", tmp_path / f"{name}.nii.gz")
    os.rename(tmp_path / "c_gt.nii.gz", tmp_path / f"{name}_gt.nii.gz")
    (line,) = look(tmp_path).lines
    assert line.isprintable()
    assert "expected text in one line as its id, found " in line
    assert "rename it without control characters, in UTF-8" in line


@pytest.mark.parametrize("name", ["Größe 1", "心臓", "a'b\"c", "a%s{0}", "-x", "$HOME", "a;b,c", "e\u0301"])
def test_unusual_names_are_names(name: str, tmp_path: Path) -> None:
    make(tmp_path, f"i/{name}.nii.gz", f"l/{name}_seg.nii.gz")
    assert labels_of(found(tmp_path / "i", tmp_path / "l")) == {name: f"{name}_seg.nii.gz"}


def test_a_link_in_a_circle_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.nii.gz", "a_gt.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to(tmp_path / "b.nii.gz")
    (line,) = look(tmp_path).lines
    assert "b.nii.gz: expected a NIfTI file, found a link to nowhere" in line
