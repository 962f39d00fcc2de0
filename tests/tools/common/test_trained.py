"""model.json is data: known settings with plain values pass, anything else is told in one line and never runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.files import sha256
from scripts.validation import SCHEMAS
from tools.__main__ import main
from tools.common.trained import class_groups, read_description, trained_settings

OLDER = {"method": "cps", "preset": "demo", "network": {"dropout": 0.1}, "steps": 600}
NAMED = {"method": "cps", "preset": "demo", "network_options": {"dropout": 0.1}}
RECORDED = NAMED | {"spacing": [2.0, 2, 2.5], "patch_size": [64, 64, 32], "width": 8, "window": [-125, 275.0]}
RECORDED |= {"prediction": None, "residual": None, "crop_foreground": False, "mr_scaling": "percentiles"}
RECORDED |= {"image_size": [96, 96], "interpolation": "trilinear"}
RECORDED |= {"in_channels": 2, "scaling": "zscore", "orientation": "RAS"}
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.fixture
def describe(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a model.json of this content, text as it is."""

    def write(content: Any) -> Path:
        (tmp_path / "model.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / "model.json"

    return write


def test_every_recorded_setting_is_taken(describe: Callable[[Any], Path]) -> None:
    assert trained_settings(read_description(describe(OLDER | {"inference": RECORDED}))) == RECORDED


def test_an_older_description_gives_method_preset_and_network(describe: Callable[[Any], Path]) -> None:
    assert trained_settings(read_description(describe(OLDER))) == NAMED


def test_an_empty_description_sets_nothing(describe: Callable[[Any], Path]) -> None:
    assert trained_settings(read_description(describe({}))) == {}


def test_every_bundle_records_known_settings_and_each_known_one_is_recorded() -> None:
    known = json.loads((SCHEMAS / "model.json").read_text())["properties"]["inference"]["properties"]
    configs = Path("bundles").glob("dca_*/configs/train.json")
    recorded = [json.loads(path.read_text())["about"]["inference"].keys() for path in configs]
    assert set().union(*recorded) == known.keys()


def test_what_is_no_setting_may_look_like_an_expression(describe: Callable[[Any], Path]) -> None:
    about = OLDER | {"labelled": ["$x", "@y", "/a/b.nii.gz"], "note": {"by": "%z"}}
    assert read_description(describe(about)) == about


@pytest.mark.parametrize(
    ("inference", "where"),
    [
        ({"width": "$__import__('os').getpid()"}, "inference.width"),
        ({"width": {"_target_": "os.getpid"}}, "inference.width"),
        ({"width": True}, "inference.width"),
        ({"width": 0}, "inference.width"),
        ({"method": "$'dca'"}, "inference.method"),
        ({"method": "@checkpoint"}, "inference.method"),
        ({"preset": "%train.json::preset"}, "inference.preset"),
        ({"method": "../dca"}, "inference.method"),
        ({"method": ["dca"]}, "inference.method"),
        ({"preset": None}, "inference.preset"),
        ({"prediction": "$1"}, "inference.prediction"),
        ({"image_size": [32, "$1"]}, "inference.image_size"),
        ({"image_size": [[32, 32]]}, "inference.image_size"),
        ({"image_size": 32}, "inference.image_size"),
        ({"spacing": []}, "inference.spacing"),
        ({"window": {"0": 1}}, "inference.window"),
        ({"residual": "$True"}, "inference.residual"),
        ({"crop_foreground": 1}, "inference.crop_foreground"),
        ({"network_options": {"_target_": "os.getpid"}}, "inference.network_options"),
        ({"network_options": {"norm": "$1"}}, "inference.network_options"),
        ({"network_options": {"norm": ["batch", {"_target_": "os.getpid"}]}}, "inference.network_options"),
        ({"network_options": {"a::b": 1}}, "inference.network_options"),
        ({"network_options": "none"}, "inference.network_options"),
        ({"initialize": []}, "inference.initialize"),
        ({"$1": 1}, "inference.$1"),
        ([], "inference"),
        ("$1", "inference"),
    ],
)
def test_what_is_no_plain_value_of_a_known_setting_is_named(
    describe: Callable[[Any], Path], inference: Any, where: str
) -> None:
    with pytest.raises(UserError, match=r"restore the file that the training wrote beside its model\.pt") as error:
        read_description(describe(OLDER | {"inference": inference}))
    assert re.search(rf"model\.json: {re.escape(where)}[.:\[]", str(error.value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "about",
    [
        {"method": "$1"},
        {"preset": {"_target_": "os.getpid"}},
        {"network": {"dropout": "$1"}},
        {"network": [1]},
        {"labelled": "p01"},
        {"labelled": [float("nan")]},
        {"validation": {"epoch": 3}},
        {"validation": {"dice": "high", "epoch": 3}},
        {"found": {"grouping": {"groups": [[1], "2"]}}},
        {"found": {"grouping": []}},
        {"inference": {"width": 10**400}},
        {"inference": {"spacing": [1.0, float("nan"), 1.0]}},
        {"note": float("inf")},
        {"note": json.loads("[" * 101 + "]" * 101)},
    ],
)
def test_wrong_types_outside_the_settings_are_told(describe: Callable[[Any], Path], about: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"model\.json: ({next(iter(about))}.*: )?expected "):
        read_description(describe(about))


def test_all_wrong_settings_are_told_at_once(describe: Callable[[Any], Path]) -> None:
    with pytest.raises(
        UserError, match=r"inference\.width: .* found '\$1', inference\.spacing: .* found 'far'; restore"
    ):
        read_description(describe({"inference": {"width": "$1", "spacing": "far"}}))


@pytest.mark.parametrize(
    "text", [DEEP, "[" * 100_000, "9" * 5000, '{"a": ' + "9" * 5000 + "}", "{", "[]", "null", '"$1"']
)
def test_what_is_no_json_object_is_told(describe: Callable[[Any], Path], text: str) -> None:
    with pytest.raises(UserError, match=r"model\.json: expected a description of a model") as error:
        read_description(describe(text))
    assert "\n" not in str(error.value)


def test_what_the_reader_needs_has_to_be_there(describe: Callable[[Any], Path]) -> None:
    with pytest.raises(UserError, match=r"model\.json: expected the keys validation, labelled, found none of them"):
        read_description(describe(OLDER), "method", "validation", "labelled")


def test_class_groups_are_read_and_missed(describe: Callable[[Any], Path]) -> None:
    assert class_groups(describe({"found": {"grouping": {"groups": [[2], [1, 3]]}}})) == [[2], [1, 3]]
    for about in ({}, {"found": {}}, {"found": {"grouping": {"groups": []}}}):
        with pytest.raises(UserError, match=r"model\.json: expected the groups of classes that DCA makes, found none"):
            class_groups(describe(about))


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, list[str]]:
    """The words of each verb that loads a model, here of dca_acdc in MODELS, and writes to OUT."""
    models, python = tmp_path / "models", tmp_path / "environment" / "bin" / "python"
    for folder in (models, python.parent, tmp_path / "studies"):
        folder.mkdir(parents=True)
    python.touch()
    torch.save({}, models / "model.pt")
    nib.Nifti1Image(np.zeros((8, 8, 2), np.float32), np.eye(4)).to_filename(tmp_path / "studies" / "a.nii.gz")
    studies, output = str(tmp_path / "studies"), str(tmp_path / "out")
    server = ["--studies", studies, "--environment", str(tmp_path / "environment"), "--port", "0"]
    return {
        "segment": [studies, output, "--bundle", "dca_acdc", "--model", str(models)],
        "package": ["dca_acdc", "--models", str(models), "--output", output],
        "deploy": ["--bundle", "dca_acdc", "--models", str(models), "--output", output],
        "label": ["--bundle", "dca_acdc", "--output", output, "--model", str(models / "model.pt"), *server],
    }


@pytest.mark.parametrize("how", ["expression", "target", "deep"])
@pytest.mark.parametrize("verb", ["segment", "package", "deploy", "label"])
def test_no_verb_runs_or_passes_on_what_a_description_smuggles_in(
    arguments: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    how: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "ran"
    smuggled: dict[str, Any] = {
        "expression": {"width": f"$__import__('pathlib').Path({str(mark)!r}).touch() or 16"},
        "target": {"network_options": {"_target_": "os.mkdir", "path": str(mark)}},
    }
    about = {"method": "dca", "preset": "cpu", "sha256": sha256(tmp_path / "models" / "model.pt")}
    text = DEEP if how == "deep" else json.dumps(about | {"inference": smuggled[how]})
    (tmp_path / "models" / "model.json").write_text(text)
    assert main([verb, *arguments[verb]]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert re.search(re.escape(f"{tmp_path / 'models' / 'model.json'}: ") + r"(inference\.\S+ )?expected ", line)
    assert not mark.exists()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
