"""Archives that `label` takes: files and folders that stay where they are put, and nothing else."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any

import pytest

from tools.label.serving.archives import check_archive
from tools.label.serving.requests import RequestError


def tar(*members: tuple[str, dict[str, Any]], mode: str = "w") -> io.BytesIO:
    """An archive of entries with a name and other attributes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, about in members:
            member = tarfile.TarInfo(name)
            member.size = 3 if about.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
            for key, value in about.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(b"abc"))
    file.seek(0)
    return file


def zipped(names: Sequence[str], mode: int = 0) -> io.BytesIO:
    """An archive of files with a mode."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            about = zipfile.ZipInfo(name)
            about.external_attr = mode << 16
            archive.writestr(about, b"abc")
    file.seek(0)
    return file


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../../x", "a/.."])
def test_entry_that_leaves_its_folder_is_refused(name: str) -> None:
    for archive, file in (("a.tar", tar((name, {}))), ("a.zip", zipped(["a.dcm", name]))):
        with pytest.raises(RequestError, match=f"{archive}: expected plain files and folders .* found '{name}'"):
            check_archive(archive, file)


@pytest.mark.parametrize(
    "about",
    [
        {"type": tarfile.SYMTYPE, "linkname": "../x"},
        {"type": tarfile.SYMTYPE, "linkname": "a.dcm"},
        {"type": tarfile.LNKTYPE, "linkname": "a.dcm"},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
        {"mode": 0o4755},
        {"mode": 0o2755},
    ],
)
def test_links_and_special_files_are_refused(about: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="found 'odd'"):
        check_archive("a.tgz", tar(("a.dcm", {}), ("odd", about), mode="w:gz"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_in_a_zip_are_refused(kind: int) -> None:
    with pytest.raises(RequestError, match="found 'odd'"):
        check_archive("a.zip", zipped(["odd"], kind | 0o644))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tar", b"abc"),
        ("a.tar.gz", tar(("a.dcm", {}), mode="w:gz").getvalue()[:-20]),
        ("a.zip", b"abc"),
        ("a.zip", zipped(["a.dcm"]).getvalue().replace(b"abc", b"xyz")),
        ("a.zip", tar(("a.dcm", {})).getvalue()),
        ("a.nii", tar(("a.dcm", {})).getvalue()),
        ("", b""),
    ],
    ids=["text", "cut off", "text as zip", "damaged", "tar as zip", "other ending", "nothing"],
)
def test_what_is_no_archive_is_refused_in_a_line(name: str, content: bytes) -> None:
    with pytest.raises(RequestError, match=f"{name}: expected an archive") as error:
        check_archive(name, io.BytesIO(content))
    assert "\n" not in str(error.value)


def test_archive_is_judged_by_the_name_that_it_will_be_unpacked_by() -> None:
    both = io.BytesIO(tar(("../x", {})).getvalue() + zipped(["a.dcm"]).getvalue())
    assert zipfile.is_zipfile(both)
    with pytest.raises(RequestError, match=r"found '\.\./x'"):
        check_archive("a.tar", both)


def test_files_and_folders_are_taken_and_the_file_is_left_at_its_start() -> None:
    folder: dict[str, Any] = {"type": tarfile.DIRTYPE, "mode": 0o2775}
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tbz2", "w:bz2"), ("a.tar.xz", "w:xz")):
        file = tar((".", folder), ("folder", folder), ("folder/a.dcm", {}), ("./b..c.dcm", {}), mode=mode)
        check_archive(name, file)
        assert file.tell() == 0
    for kind in (0, stat.S_IFREG | 0o644):
        file = zipped(["folder/", "folder/a.dcm"], kind)
        check_archive("a.zip", file)
        assert file.tell() == 0
