"""`check` without `--untrusted`, too, ends in a message where a config would take all memory or time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.tools.check_runner import TRAIN
from tools.__main__ import main

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
TOO_LARGE = "expected a config of at most 100000 values in 100 levels, found more; do not use it"
MANY = "expected a config of at most 2000 expressions of 10000 characters, found more; do not use it"


def own(**values: object) -> str:
    return json.dumps({**json.loads(TRAIN.read_text()), **values})


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("laughs.yaml", LAUGHS, TOO_LARGE),
        ("circle.yaml", "a: &a [*a]", TOO_LARGE),
        ("deep.yaml", "[" * 20_000, "maximum recursion depth exceeded"),
        ("deep.json", '{"a": ' + "[" * 200 + "]" * 200 + "}", "more than 100 lists and objects in one another"),
        ("terms.json", own(seed="$" + " + ".join(["1"] * 20_000)), MANY),
        ("list.json", own(seed=["$1"] * 20_000), MANY),
    ],
)
def test_hostile_config_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, reason: str
) -> None:
    (tmp_path / name).write_text(text)
    start = time.monotonic()
    assert main(["check", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert reason in error[0]
    assert str(tmp_path / name) in error[0]
    assert time.monotonic() - start < 100  # not for ever


def test_expression_that_python_cannot_read_is_one_problem_among_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.json").write_text(own(seed="$" + "-" * 9_000 + "1"))
    assert main(["check", str(tmp_path / "train.json"), "--dataset_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert "  seed: expected a Python expression that Python can read, found 9001 characters" in error
