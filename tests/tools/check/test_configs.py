"""`check`: mistakes in the config files themselves, and what of them is not run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.check_runner import CONFIGS, TRAIN, Check, runner


@pytest.fixture
def check(heart_phantom: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the verb on the phantom."""
    return runner(heart_phantom, capsys)


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Makes a bundle like the shipped one, with changes to its train.json; the path of that config."""

    def make(**changes: Any) -> Path:
        shutil.copytree(CONFIGS, tmp_path / "bundle" / "configs", dirs_exist_ok=True)
        path = tmp_path / "bundle" / "configs" / "train.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return path

    return make


def test_no_component_is_built_and_what_the_runner_runs_is_not_run(
    check: Check, bundle: Callable[..., Path], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    touch = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    component = {"_target_": "pathlib.Path.touch", "self": f"$__import__('pathlib').Path({str(trace)!r})"}
    config = bundle(extra=component, more="$@extra or 1", initialize=[f"${touch}"], run=[f"${touch}"])
    code, _, error = check(config, "--bundle_root", config.parents[1])
    assert (code, error) == (0, [])
    assert not trace.exists()


def test_what_a_datalist_says_is_never_run(
    check: Check, heart_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(heart_phantom, tmp_path / "data")
    trace = tmp_path / "trace"
    content = json.loads((data / "datalist.json").read_text())
    for case in content["cases"]:
        case["note"] = f"$__import__('pathlib').Path({str(trace)!r}).touch()"
    (data / "datalist.json").write_text(json.dumps(content))
    assert check(TRAIN, data=data)[0] == 0
    assert not trace.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": {"_target_": "Compose", "transform": []}}, "extra::transform: expected an argument of Compose"),
        ({"extra": {"_target_": "scripts.losses.soft_dise"}}, "no scripts.losses.soft_dise; did you mean 'soft_dice'?"),
        ({"extra": {"_target_": "nowhere.Thing"}}, "extra: expected _target_ to name a class or function, found no"),
        ({"extra": ["@train::trainer", "@train::trainr"]}, "extra::1: refers to @train::trainr, which does not exist"),
        ({"extra": {"a": "@::b"}}, "extra::a: refers to @extra::b, which does not exist"),
        ({"extra": "%elsewhere.json::x"}, "extra: elsewhere.json: expected a config for a macro, found no such file"),
        ({"train": {"trainer": {"max_epochs": 1}}}, "train::dataset, train::inferer: expected this id, which MONAI re"),
        (
            {"presets": {"cpu": {"lr": 1}}},
            "interpolation: expected a key that exists, found 'interpolation'; correct",
        ),
    ],
)
def test_mistake_in_a_config_is_named(
    check: Check, bundle: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    code, _, error = check(bundle(**changes))
    assert code == 2
    assert any(message in line for line in error), error


def test_right_constructs_pass(check: Check, bundle: Callable[..., Path]) -> None:
    disabled = {"_target_": "nowhere.Thing", "_disabled_": True}
    extra = {"a": 1, "b": "@::a", "c": {"d": "$@::::a + 1", "e": "%::::a"}, "f": disabled, "g": "me@example.org"}
    assert check(bundle(extra=extra, more="%extra::c"))[::2] == (0, [])


def test_key_of_an_overlay_that_nothing_uses_is_named(check: Check, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"epochss": 3, "+presets": [], "trian::x": 1, "unlike any other": 1}')
    code, _, error = check([str(TRAIN), str(tmp_path / "mine.json")])
    assert code == 2
    assert len(error) == 4
    assert "+presets: expected two mappings or two lists to merge, found list for dict" in error[1]
    assert "trian::x: expected an id to set in" in error[2]
    assert "did you mean 'train::x'?" in error[2]
    assert (
        "mine.json: epochss: expected an id of the config, found one that nothing uses; did you mean 'epoc" in error[3]
    )


@pytest.mark.parametrize("words", [[], ["--a", "word"]])
def test_a_config_without_the_folder_of_its_bundle_is_told_so(check: Check, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "mine.json").write_text('{"run": [], "a": "$1 + 1"}')
    code, _, error = check(tmp_path / "mine.json", *words)
    assert code == 2
    assert any("bundle_root, device, " in line and "expected this id, which MONAI requires" in line for line in error)
    assert any("--a: expected a number, found the word 'word'" in line for line in error) == bool(words)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.json",
            "{",
            "a.json: expected a bundle config in JSON, found text that does not parse (Expecting",
        ),
        ("a.json", '{"a": 1, "a": 2}', "a.json: expected each key once, found a twice"),
        ("a.json", "[]", "a.json: expected a bundle config (a JSON object), found a list"),
        ("a.yaml", "a: [", "a.yaml: expected a bundle config, found YAML that does not parse"),
        ("b.json", "{}", "a.json: expected a bundle config, found no such file"),
    ],
)
def test_unreadable_config_is_one_line(check: Check, tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    code, _, error = check(tmp_path / name.replace("b", "a"))
    assert (code, len(error)) == (2, 1)
    assert message in error[0]


def test_list_of_configs_that_does_not_parse_is_one_line(check: Check) -> None:
    code, _, error = check("['a.json'")
    assert (code, len(error)) == (2, 1)
    assert "CONFIG: expected a list like" in error[0]
