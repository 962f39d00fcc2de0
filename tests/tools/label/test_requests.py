"""JSON and files in requests to the server of `label`: what cannot be stored, read or sent again is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tools.label.serving.requests import (
    RequestError,
    check_ending,
    check_json,
    check_label_info,
    file_name,
    read_object,
    sent_along,
)


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 1


@pytest.mark.parametrize(
    "text",
    [
        "{bad",
        "[1]",
        "3",
        "null",
        "[" * 60_000,
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "9" * 400 + "}",
        '{"a": NaN}',
        '{"a": [1, -Infinity]}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        json.dumps({"a": nested(8)}),
        json.dumps({"a": "x" * 70_000}),
    ],
)
def test_text_that_is_no_json_object_or_cannot_be_sent_again_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="params: expected") as error:
        read_object(text)
    assert len(str(error.value)) < 300
    str(error.value).encode()


def test_what_is_taken_is_what_was_sent() -> None:
    content = {"a": [1, 2.5, None, True, "é", "\U0001f600", {}], "b": nested(7)}
    assert read_object(json.dumps(content)) == content
    assert read_object("") == {}
    assert check_json(None) is None


def test_with_a_study_or_label_nothing_is_kept_but_who_sent_it_and_its_segments() -> None:
    params = {"client_id": "reader", "name": 3, "disagreement": 3, "strategy": "x", "label_info": [{"name": "liver"}]}
    assert sent_along(params) == {"client_id": "reader"}
    assert check_label_info(params) == {"client_id": "reader", "label_info": [{"name": "liver"}]}
    assert check_label_info({}) == {"label_info": []}
    for wrong in ("liver", {"name": "liver"}, ["liver"], 3):
        with pytest.raises(RequestError, match="label_info: expected a list of objects"):
            check_label_info({"label_info": wrong})


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("ct 1.nii.gz", "ct 1.nii.gz"),
        ("/data/me/ct.nii.gz", "ct.nii.gz"),
        ("C:\\Users\\me\\ct.nii.gz", "ct.nii.gz"),
        ("a/..", "file"),
        ("..", "file"),
        ("", "file"),
        (None, "file"),
        ("a\0b;c.nii", "a_b_c.nii"),
        ("x" * 300 + ".nii", "x" * 96 + ".nii"),
    ],
)
def test_file_has_the_last_part_of_its_name_in_harmless_characters(sent: str | None, name: str) -> None:
    assert file_name(sent) == name


def test_image_is_known_by_its_ending() -> None:
    assert check_ending("label", "ct.nii.gz") == ".nii.gz"
    assert check_ending("label", "ct.seg.nrrd") == ".nrrd"
    for name in ("label.bin", "ct.nii.zip", "ct.gz", "ct", "nii.gz"):
        with pytest.raises(RequestError, match=f"label: expected a file that ends in .*, found {name!r}"):
            check_ending("label", name)
