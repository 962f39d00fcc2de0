import json
import os
import re

import pytest

from scripts.errors import UserError
from scripts.files import new_folder, read_json, replacing, write_json


def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path, "a text") as partial:  # noqa: PT012 - the failure comes half-way
        partial.write_text("half of the n")
        raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_the_folder_is_made(tmp_path):
    write_json(tmp_path / "a" / "b" / "c.json", {"x": [1, 2]})
    assert json.loads((tmp_path / "a" / "b" / "c.json").read_text()) == {"x": [1, 2]}


def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path):
    path = tmp_path / "c.json"
    (tmp_path / "c.json.partial").symlink_to("/dev/full")  # a device on which every write finds no space
    with pytest.raises(UserError, match=r"c\.json: expected to write a list, found: no space left on the disk"):
        write_json(path, {}, "a list")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "c.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "expected a split file, found no such file"),
        ("{", "expected a split file in JSON, found text that does not parse"),
        ("[]", "expected a split file (a JSON object), found a list"),
        ('{"a": {"b": 1, "b": 2}}', "expected each key once, found b twice"),
        ("[" * 100_000, "does not parse"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "does not parse (more than 100 lists and objects in one another)"),
        ('{"a": ' + "9" * 5000 + "}", "does not parse (a whole number of 5000 digits)"),
        ('{"a": NaN}', "does not parse (NaN, which is no finite number)"),
        ('{"a": [-1e999]}', "does not parse (-1e999, which is no finite number)"),
    ],
)
def test_json_that_is_no_object_is_named_with_its_file_and_role(tmp_path, content, found):
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=re.escape(found)) as told:
        read_json(path, "split file")
    assert str(told.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["folder", "pipe", "endless device", "name that no file can have"])
def test_what_is_no_regular_file_is_told_and_not_read(tmp_path, kind):
    path = tmp_path / ("split\0.json" if kind.startswith("name") else "split.json")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="expected a split file, found no such file"):
        read_json(path, "split file")


def test_a_json_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "split.json").open("wb") as file:
        file.truncate(2**28 + 1)  # takes no space on the disk
    with pytest.raises(UserError, match=r"does not parse \(more than 256 MiB\)"):
        read_json(tmp_path / "split.json", "split file")


def test_a_new_folder_is_there_as_a_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "a") as partial:  # noqa: PT012 - the failure comes half-way
        (partial / "file").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with new_folder(tmp_path / "a") as partial:
            (partial / "file").write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "file").read_text() == "first"


def test_a_replacing_folder_takes_the_place_and_removes_what_a_killed_one_left(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "left").touch()
    with pytest.raises(KeyError), new_folder(tmp_path / "a", replace=True):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "old"]
    (tmp_path / ".a.partial").mkdir()
    with new_folder(tmp_path / "a", replace=True) as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new"]
