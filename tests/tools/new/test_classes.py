"""Files that name the classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.new.trees import found, look, make

EXPECTED = {1: "right ventricle", 3: "myocardium"}
ITK_SNAP = """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "right ventricle"
    3     0  255    0      0.5  1  1    "myocardium"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", "a1.nii.gz", "a1_gt.nii.gz")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"1": "right ventricle", "3": "myocardium"}'),
        ("c.json", '{"background": 0, "myocardium": 3, "right ventricle": 1}'),
        ("c.json", '{"labels": {"0": "background", "1": "right ventricle", "3": "myocardium"}, "modality": {}}'),
        ("c.txt", "\ufeff1 right ventricle\n3 myocardium"),
        ("c.txt", "\ufeff# mine\n\n0 background\n 3: myocardium \r\n1\tright ventricle\n"),
        ("c.csv", "number,name\n1,right ventricle\n3, myocardium\n"),
        ("c.csv", 'number;name\n1;"right ventricle"\n3;myocardium\n'),
        ("c.label", ITK_SNAP),
    ],
)
def test_classes_are_numbers_with_names(name: str, text: str, data: Path) -> None:
    (data / name).write_text(text, encoding="utf-8")
    assert found(data, classes=data / name).classes == EXPECTED


def test_without_a_file_only_the_labels_can_tell(data: Path) -> None:
    assert found(data).classes is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "{", "expected a list of classes in JSON, found text that does not parse"),
        ("c.json", "[1]", "expected a list of classes (a JSON object), found a list"),
        ("c.json", "{}", "expected classes, as an object of numbers and names, found a dict"),
        ("c.json", '{"labels": 7}', "expected classes, as an object of numbers and names, found 7"),
        ("c.json", '{"1": "a", "b": 2}', "expected a number and a name for each class, found '1': 'a'"),
        ("c.json", '{"1": "a", "1": "b"}', "expected each key once, found 1 twice"),
        ("c.json", '{"01": "a", "1": "b"}', "expected each number once, found '1' twice"),
        ("c.json", '{"a": -1}', "expected numbers from 0 to 65535, found -1"),
        ("c.json", '{"1": "a\\u202eb"}', "expected a name in one line, found 1 'a\\u202eb'"),
        ("c.json", '{"1": " "}', "expected a name in one line, found 1 ''"),
        ("c.json", '{"0": "background"}', "expected at least one class besides background, found none"),
        ("c.json", '{"0": "heart", "1": "b"}', "expected 0, and only 0, to be the background, found 0 'heart'"),
        ("c.json", '{"1": "Background", "2": "b"}', "expected 0, and only 0, to be the background, found 1 'Backgr"),
        ("c.txt", "1 a\n1 b", "expected each number once, found '1' twice"),
        ("c.txt", "1 a\n2 A", "expected each name once, found 'a' twice"),
        ("c.txt", "1 a\nb", "in line 2"),
        ("c.txt", "liver,1\nspleen,2", "found 'liver,1' in line 1"),
        ("c.txt", "70000 a", "expected numbers from 0 to 65535, found 70000"),
        ("c.txt", "9" * 5000 + " a", "expected numbers from 0 to 65535, found 9999"),
        ("c.txt", "", "expected at least one class besides background, found none"),
        ("c.txt", "1 \x1b[2J", "expected a name in one line, found 1 '\\x1b[2J'"),
    ],
)
def test_fault_is_told(name: str, text: str, message: str, data: Path) -> None:
    (data / name).write_text(text)
    line = look(data, classes=data / name).lines[0]
    assert line.startswith(f"{data / name}: ")
    assert message in line


def test_file_that_is_missing_too_large_or_no_text_is_told(data: Path) -> None:
    (data / "large.txt").write_bytes(b"1 a\n" * 300_000)
    (data / "binary.txt").write_bytes(b"1 \xff")
    for name, found_text in (("no.txt", "no such file"), ("large.txt", "1200000 bytes"), ("binary.txt", "not UTF-8")):
        (line,) = look(data, classes=data / name).lines
        assert line.startswith(f"{data / name}: expected classes as `1 name`")
        assert found_text in line
