"""`check --untrusted`: archives that write elsewhere, hide something or never end; nothing of them is unpacked."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.tools.check.untrusted.conftest import Scan

EVIL = b'{"a": "$evil()"}'
MEBI = 1024 * 1024


def zipped(
    path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], before: bytes = b"", compress: bool = True
) -> Path:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    path.write_bytes(before + content.getvalue())
    return path


def tar(path: Path, *members: tuple[str, dict[str, Any]], data: bytes = EVIL) -> Path:
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, about in members:
            member = tarfile.TarInfo(name)
            member.size = len(data) if about.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
            for key, value in about.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip", "txt"])
def test_archive_is_known_by_its_content_and_looked_into(scan: Scan, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending in ("zip", "txt"):
        zipped(path, ("b/", b""), ("b/x.json", EVIL))
    else:
        tar(path, ("b", {"type": tarfile.DIRTYPE}), ("b/x.json", {}))
    assert scan(path)[:2] == (1, ["b/x.json: a: expression $evil(): is run as Python"])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../x.json", "has a path that leads out of its folder"),
        ("a/../../x.json", "has a path that leads out of its folder"),
        ("..\\x.json", "has a path that leads out of its folder"),
        ("/etc/x.json", "has an absolute path"),
        ("C:\\x.json", "has an absolute path"),
        ("\\\\host\\x.json", "has an absolute path"),
        ("a\x1b[2Jb.json", "has characters in its name that are not shown"),
        ("a\u202enosj.json", "has characters in its name that are not shown"),
    ],
)
def test_member_with_a_hostile_name_is_named_and_its_content_read(
    scan: Scan, tmp_path: Path, name: str, problem: str
) -> None:
    for path in (zipped(tmp_path / "a.zip", (name, EVIL)), tar(tmp_path / "a.tar", (name, {}))):
        code, found, _ = scan(path)
        assert (code, len(found)) == (1, 2)
        assert found[0].endswith(": file: " + problem)
        assert found[1].endswith("expression $evil(): is run as Python")
        assert all(line.isprintable() for line in found)


def test_members_that_take_each_others_place_are_named(scan: Scan, tmp_path: Path) -> None:
    names = ("a.txt", "b/x.txt", "A.txt", "b/./x.txt", "ﬁ.txt", "fi.txt")
    expected = [
        "A.txt: file: differs only by case or form from a.txt",
        "b/./x.txt: file: differs only by case or form from b/x.txt",
        "fi.txt: file: differs only by case or form from ﬁ.txt",
    ]
    assert scan(zipped(tmp_path / "a.zip", *((name, b"") for name in names)))[1] == expected
    assert scan(tar(tmp_path / "a.tar", *((name, {}) for name in names)))[1] == expected
    twice = tar(tmp_path / "b.tar", ("a.txt", {}), ("a.txt", {}))
    assert scan(twice)[1] == ["a.txt: file: comes twice: which one counts depends on the reader"]


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link, to /etc/passwd"),
        ({"type": tarfile.SYMTYPE, "linkname": "b.txt"}, "is a link, to b.txt"),
        ({"type": tarfile.LNKTYPE, "linkname": "../x"}, "is a link, to ../x"),
        ({"type": tarfile.CHRTYPE}, "is a device or a pipe"),
        ({"type": tarfile.BLKTYPE}, "is a device or a pipe"),
        ({"type": tarfile.FIFOTYPE}, "is a device or a pipe"),
        ({"mode": 0o4755}, "would run as its owner"),
    ],
)
def test_links_devices_and_rights_in_a_tar_are_named(
    scan: Scan, tmp_path: Path, about: dict[str, Any], problem: str
) -> None:
    code, found, _ = scan(tar(tmp_path / "a.tgz", ("b.txt", {}), ("odd.txt", about)))
    assert (code, len(found)) == (1, 1)
    assert found[0].startswith(f"odd.txt: file: {problem}")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_named(scan: Scan, tmp_path: Path, kind: int) -> None:
    about = zipfile.ZipInfo("odd.txt")
    about.external_attr = (kind | 0o644) << 16
    assert scan(zipped(tmp_path / "a.zip", (about, b"/etc/passwd")))[1] == [
        "odd.txt: file: is a link or a device, no plain file or folder"
    ]


def test_link_out_of_a_folder_and_what_is_no_file_are_named_and_never_opened(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_bytes(EVIL)
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "out.json").symlink_to("../secret.json")
    (root / "folder").symlink_to("..")
    (root / "x.txt").write_text("")
    (root / "in.json").symlink_to("x.txt")
    os.mkfifo(root / "pipe.json")
    assert scan(root)[1] == [
        "folder: file: is a link out of the bundle, to ..",
        "out.json: file: is a link out of the bundle, to ../secret.json",
        "pipe.json: file: is no plain file or folder",
    ]


def test_code_is_named_by_ending_or_content(scan: Scan) -> None:
    files = {
        "scripts/a.py": b"",
        "b.so": b"",
        "c.weights": b"\x7fELF",
        "d": b"#!/bin/sh",
        "e.ipynb": b"{}",
        "f.txt": b"",
    }
    _, found, _ = scan(dict(files))
    assert sorted(line.split(": ")[0] for line in found) == ["b.so", "c.weights", "d", "e.ipynb", "scripts/a.py"]
    assert all(": code: " in line for line in found)


def test_archive_inside_is_looked_into_if_zip_and_else_named(scan: Scan, tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", ("../x.json", EVIL)).read_bytes()
    gz = tar(tmp_path / "b.tar.gz", ("x", {})).read_bytes()
    files = {
        "a.weights": inner,
        "b.tar.gz": gz,
        "c.tar": tar(tmp_path / "c.tar", ("x", {})).read_bytes(),
        "d.7z": b"7z\xbc\xaf'\x1c",
    }
    assert scan({**files, "e.nii.gz": b"\x1f\x8b\x08"})[1] == [
        "a.weights!../x.json: file: has a path that leads out of its folder",
        "a.weights!../x.json: a: expression $evil(): is run as Python",
        *(
            f"{name}: archive: is not looked into: unpack it and check it by itself"
            for name in ("b.tar.gz", "c.tar", "d.7z")
        ),
    ]


def test_archive_behind_other_data_is_named(scan: Scan, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.png", ("x.json", EVIL), before=b"\x89PNG" + b"\0" * 100)
    _, found, _ = scan({"a.png": path.read_bytes()})
    assert found[0] == "a.png: file: has other data before its archive, so that it can pass for two kinds of file"
    assert found[1] == "a.png!x.json: a: expression $evil(): is run as Python"


def test_encrypted_member_is_named(scan: Scan, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("x.json", EVIL))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert scan(path)[1] == ["x.json: file: is encrypted: nobody can look into it"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz", "in zip", "in folder", "claim"])
def test_bomb_is_not_unpacked(scan: Scan, tmp_path: Path, kind: str) -> None:
    zeros = bytes(70 * MEBI)
    if kind == "zip":
        bundle: Any = zipped(tmp_path / "a.zip", ("x", zeros))
    elif kind == "claim":  # a header that claims terabytes
        about = tarfile.TarInfo("x")
        about.size = 1 << 40
        (tmp_path / "a.tar").write_bytes(about.tobuf())
        bundle = tmp_path / "a.tar"
    elif kind.startswith("tar"):
        bundle = tar(tmp_path / f"a.{kind}", ("x", {}), data=zeros)
    else:
        inner = zipped(tmp_path / "a.pt", ("x", zeros)).read_bytes()
        bundle = zipped(tmp_path / "b.zip", ("a.pt", inner)) if kind == "in zip" else {"a.pt": inner}
    code, _, error = scan(bundle)
    assert (code, len(error)) == (2, 1)
    assert "found that it expands to more; do not unpack it" in error[0]


def test_budget_is_shared_by_archives_in_archives(scan: Scan, tmp_path: Path) -> None:
    inner = zipped(tmp_path / "a.pt", ("x", bytes(40 * MEBI))).read_bytes()
    code, _, error = scan(zipped(tmp_path / "b.zip", ("a.pt", inner), ("b.pt", inner)))
    assert code == 2
    assert "expands to more" in error[0]


def test_archives_in_archives_end_somewhere(scan: Scan, tmp_path: Path) -> None:
    data = EVIL
    for _ in range(6):
        data = zipped(tmp_path / "a.zip", ("a.zip", data)).read_bytes()
    code, _, error = scan(tmp_path / "a.zip")
    assert (code, len(error)) == (2, 1)
    assert "expected archives in archives up to 3 deep, found more" in error[0]


def test_bundle_of_very_many_files_is_refused(scan: Scan, tmp_path: Path) -> None:
    names = [str(number) for number in range(10_001)]
    for path in (
        zipped(tmp_path / "a.zip", *((name, b"") for name in names)),
        tar(tmp_path / "a.tar", *((n, {"size": 0}) for n in names)),
    ):
        code, _, error = scan(path)
        assert code == 2
        assert "at most 10000 files" in error[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", b"abc"),
        ("a.zip", b""),
        ("train.json", EVIL),
        ("damaged.zip", None),
        ("cut.tgz", None),
        ("missing.zip", None),
    ],
)
def test_what_is_no_bundle_or_damaged_is_told_in_one_line(
    scan: Scan, tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "damaged.zip":
        stored = zipped(path, ("x.txt", b"abcdefgh"), compress=False).read_bytes()
        path.write_bytes(stored.replace(b"abcdefgh", b"abcdefgX"))
    elif name == "cut.tgz":
        path.write_bytes(tar(path, ("x.txt", {}), data=os.urandom(MEBI)).read_bytes()[:5000])
    code, _, error = scan(path)
    assert (code, len(error)) == (2, 1)
    assert error[0].startswith("error: ")
    assert name.split(".")[0] in error[0] or "x.txt" in error[0]
