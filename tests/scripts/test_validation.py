"""Settings, options and files of another kind than their schema says are told in one line; what is meant passes."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.errors import UserError
from scripts.inference.backends import BACKENDS
from scripts.methods import METHODS, create_predictor, unprepared_method
from scripts.scoring.empty_masks import EMPTY_POLICIES
from scripts.scoring.metrics import METRICS
from scripts.settings import expect_settings
from scripts.validation import SCHEMAS, problems

NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))
CONTAINERS = ("properties", "$defs")
PARTS = ("items", "additionalProperties", "propertyNames")  # and `prefixItems`, a list

BAD_SETTINGS: list[tuple[str, Any]] = [
    *[("batch_size", value) for value in (0, 2, [2], [0, 2], [2, -1], [2, 2, 2], [2, 1.5], "two")],
    *[("width", value) for value in (-4, 0, 1.5, True, "wide", 10**5000, None)],
    *[("lr", value) for value in (math.nan, math.inf, -0.1, "1e-3", [0.1])],
    *[("steps", value) for value in (-1, 0, 2.0, "many")],
    *[("val_steps", value) for value in (0, -5)],
    *[("epochs", value) for value in (0, 1.5)],
    *[("val_interval", value) for value in (0, -1)],
    *[("num_workers", value) for value in (-1, 10**6, 0.5)],
    *[("image_size", value) for value in ([0, 0], [64], [64, 64, 64], 64, [64, "64"], [64, -64], [10**6, 64])],
    *[("patch_size", value) for value in ([64, 64], [64, 64, 0])],
    *[("spacing", value) for value in ([3, 3], [3, 3, 0], [3, 3, math.nan], "3 mm")],
    *[("window", value) for value in ([275, -125], [1, 1], [0], [0, math.inf])],
    *[("overlap", value) for value in (1.0, -0.1, [0.5, 0.5], [0.5, 0.5, 1])],
    *[("percent", value) for value in (0, -1, 101, math.nan, "ten")],
    *[("seed", value) for value in (-1, 2**32, 0.5)],
    *[("average_decay", value) for value in (1, -0.1)],
    *[("cache_rate", value) for value in (1.1, -1)],
    *[("flip_probability", value) for value in (2, "often")],
    *[("mirror_axes", value) for value in ([3], [0, 0], 0)],
    *[("deep_supervision", value) for value in ("false", 0)],
    *[("crop_foreground", value) for value in ("false", None)],
    *[("method", value) for value in ("$1", "@x", "", ["dca"])],
    *[("method_options", value) for value in ([], {"a::b": 1}, {"a": {"_target_": "os.getpid"}}, {"a": "$1"})],
    *[("cache_dir", value) for value in (1, "a\0b")],
    *[
        (path, value)
        for path in ("dataset_dir", "split_file", "run_dir", "checkpoint")
        for value in (5, ["a"], "", "a\0b")
    ],
    *[("interpolation", value) for value in ("cubic", "nearest", None)],
    *[("merge", value) for value in ("mean",)],
    *[("amp", value) for value in ("maybe", 1)],
    *[("warmup", value) for value in (-1, 1.5)],
]
GOOD_SETTINGS = {
    **{"batch_size": (2, 2), "width": 8, "lr": 0.03, "steps": 1, "image_size": [64, 48], "overlap": [0.6, 0.6, 0.8]},
    **{
        "window": [-125, 275.0],
        "spacing": [1, 1.5, 2],
        "percent": 100,
        "residual": None,
        "amp": "false",
        "cache_dir": None,
    },
    **{"method_options": {"manual_groups": [[1], [2, 3]], "mirror": [], "magnitude": None}, "mirror_axes": []},
}
BAD_OPTIONS: list[tuple[str, str, Any]] = [
    *[("dca", "unsup_weight", value) for value in (-1, math.nan, "much", None)],
    *[("dca", "teacher_decay", value) for value in (1, -0.5, 2)],
    *[("dca", "ramp_length", value) for value in (-0.1, "long")],
    *[("dca", "manual_groups", value) for value in ([], [[]], [[0]], [1], "all")],
    *[("dca", "jitter", value) for value in (1.5, -1)],
    *[("dca", "ramp", value) for value in ("steep", 1)],
    *[("fixmatch", "threshold", value) for value in (1.5, -1)],
    *[("ss_net", "memory", value) for value in (0, 1.5)],
    *[("a_and_d", "temperature", value) for value in (0, -1)],
    *[("ua_mt", "passes", value) for value in (0, "eight")],
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS, ids=[f"{n} {i}" for i, (n, _) in enumerate(BAD_SETTINGS)])
def test_a_setting_out_of_its_range_is_told_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(UserError) as told:
        expect_settings(**GOOD_SETTINGS | {name: value})
    assert str(told.value).startswith(name)
    assert "expected " in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert len(str(told.value)) < 300


def test_settings_that_make_sense_pass() -> None:
    expect_settings(**GOOD_SETTINGS)


def test_all_wrong_settings_are_told_at_once_and_each_once() -> None:
    assert len(problems([1e9, 1e9], "settings", "image_size")) == 2
    with pytest.raises(UserError, match=r"width: expected a whole .* found -4; lr: expected a finite .* found nan"):
        expect_settings(width=-4, lr=math.nan)


@pytest.mark.parametrize(("method", "option", "value"), BAD_OPTIONS)
def test_an_option_out_of_its_range_is_told_before_anything_is_trained(method: str, option: str, value: Any) -> None:
    network = create_predictor(method, style="unet", spatial_dims=2, in_channels=1, num_classes=3, width=2)
    with pytest.raises(UserError, match=rf"{option}.*: expected "):
        unprepared_method(method, network, options={option: value})


def test_every_option_has_a_range_that_its_own_values_keep() -> None:
    ranges = json.loads((SCHEMAS / "options.json").read_text())["properties"]
    for cls in METHODS.values():
        parameters = list(inspect.signature(cls).parameters.items())[1:]
        parameters += inspect.signature(cls.network).parameters.items()
        kept = [(name, p.default) for name, p in parameters if p.default not in (None, p.empty)]
        for where in ("published", "published_3d", "published_network", "recommended", "recommended_2d"):
            kept += getattr(cls, where).items()
        kept += [(name, value) for name, values in cls.tuning.items() for value in values]
        assert {name for name, _ in parameters} <= ranges.keys(), cls.__name__
        for name, value in kept:
            if name in ranges:  # `tuning` holds settings, too
                assert list(problems(value, "options", name)) == [], (cls.__name__, name)


def described(part: Any, path: str) -> Iterator[str]:
    """The parts of a schema that can fail and have no words for it."""
    for key in CONTAINERS:
        for name, inner in part.get(key, {}).items():
            yield from described(inner, f"{path}/{key}/{name}")
    for key in PARTS:
        if isinstance(part.get(key), dict):
            yield from described(part[key], f"{path}/{key}")
    for inner in part.get("prefixItems", ()):
        yield from described(inner, f"{path}/prefixItems")
    if part.keys() != {"$ref"} and "description" not in part:
        yield path


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_schema_has_words_for_what_it_expects(name: str) -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert list(described(schema, name)) == []


def test_an_unknown_key_of_a_closed_object_gets_a_suggestion() -> None:
    (problem,) = problems({"inference": {"widht": 8}}, "model")
    assert str(problem) == "inference.widht: expected a known key, found another; did you mean 'width'?"


def test_what_is_deep_or_endless_is_told_and_not_shown() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    (problem,) = problems({"cases": deep}, "datalist")
    assert "expected " in str(problem)
    assert len(str(problem)) < 200


def test_the_words_that_a_setting_may_be_are_those_of_the_code() -> None:
    schema = json.loads((SCHEMAS / "settings.json").read_text())
    allowed = {name: set(schema["$defs"][name]["enum"]) for name in ("policy", "score")}
    allowed |= {"backend": set(schema["properties"]["backend"]["enum"])}
    assert allowed == {"policy": set(EMPTY_POLICIES), "score": set(METRICS), "backend": set(BACKENDS)}


def test_shipped_splits_fit_their_schema() -> None:
    files = list(Path("bundles").glob("dca_*/splits/*.json"))
    assert len(files) == 5
    for file in files:
        assert list(problems(json.loads(file.read_text()), "split")) == []


def test_a_check_of_the_network_needs_no_memory() -> None:
    with torch.device("meta"):
        network = create_predictor("dca", style="vnet", spatial_dims=3, in_channels=1, num_classes=13, width=64)
        method = unprepared_method("dca", network)
    assert all(parameter.is_meta for parameter in method.parameters())
