"""What `check` tells without running anything is what MONAI, Python and the bundles' code do."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig

from scripts.methods import METHODS
from scripts.networks.encoder_decoder import DIVISOR
from tools.check import INFERENCE_IDS, TRAINING_IDS
from tools.checking.components import find_target, method_options, methods
from tools.checking.config import Config
from tools.checking.expressions import Values
from tools.checking.findings import Findings
from tools.checking.merging import load_config, parse_overrides
from tools.checking.sizes import MULTIPLE
from tools.checking.source import SourceCode

BUNDLES = Path(__file__).parents[2] / "bundles"
CONFIGS = BUNDLES / "dca_acdc" / "configs"
OVERRIDES = ["--lr=1e-3", "--train#trainer#max_epochs", "7", "--batch_size", "[1, 3]", "--resume", "--num_workers", "0"]
MERGES = [["train"], ["train", "evaluate"], ["train", "multi_gpu_train"], ["inference"]]


def targets() -> list[str]:
    found = set()
    for path in sorted(BUNDLES.glob("*/configs/*.json")):
        config = Config()
        config.tree = json.loads(path.read_text())
        found |= {component["_target_"] for _, component in config.components()}
    return sorted(found)


@pytest.fixture(scope="module")
def source() -> SourceCode:
    return SourceCode(BUNDLES / "dca_acdc")


def merged(names: list[str], words: list[str]) -> Config:
    findings = Findings()
    config = load_config([CONFIGS / f"{name}.json" for name in names], parse_overrides(words, findings), findings)
    assert findings.problems == []
    return config


def monais(names: list[str], overrides: dict[str, Any]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in names])
    parser.update(overrides)
    parser.resolve_macro_and_relative_ids()
    return parser


@pytest.mark.parametrize("names", MERGES, ids="+".join)
def test_files_and_overrides_make_the_same_config(names: list[str]) -> None:
    words = OVERRIDES if "train" in names else []
    overrides = {"lr": 1e-3, "train::trainer::max_epochs": 7, "batch_size": [1, 3], "resume": True, "num_workers": 0}
    theirs = monais(names, overrides if words else {}).get()
    del theirs["_meta_"]
    assert merged(names, words).tree == theirs


@pytest.mark.parametrize("names", MERGES, ids="+".join)
def test_values_are_the_same_where_they_are_known(names: list[str]) -> None:
    values, parser = Values(merged(names, [])), monais(names, {})
    known = {key: value for key in values.config.tree if (value := values.get(key, object)) is not None}
    assert {
        "dataset_dir",
        "image_size",
        "interpolation",
        "num_classes",
        "checkpoint" if "evaluate" in names else "method",
    } <= known.keys()
    assert {key: parser.get_parsed_content(key) for key in known} == known
    assert values.broken == {}


@pytest.mark.parametrize("target", targets())
def test_arguments_are_those_of_the_signature(source: SourceCode, target: str) -> None:
    module = ComponentLocator().get_component_module_name(target) if "." not in target else None
    parameters = inspect.signature(locate(f"{module}.{target}" if module else target)).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    any_name = any(p.kind == p.VAR_KEYWORD for p in parameters)
    found = find_target(target, source)
    assert len(found) == 1
    arguments = source.arguments(found[0])
    if any_name and arguments is not None:  # passed on to the base, whose arguments are known
        assert set(names) < set(arguments)
    else:
        assert arguments == (None if any_name else names)


def test_arguments_passed_on_to_the_base_are_known(source: SourceCode) -> None:
    arguments = source.arguments(source.find("scripts.inference.evaluator.SegmentationEvaluator"))
    assert arguments is not None
    assert {"device", "network", "amp", "val_data_loader", "postprocessing"} <= set(arguments)
    assert source.arguments(source.find("monai.transforms.LoadImaged")) is None


def test_methods_and_their_options_are_those_of_the_code(source: SourceCode) -> None:
    found = methods(source)
    assert found.keys() == METHODS.keys()
    for name, cls in METHODS.items():
        assert method_options(found[name], source) == list(inspect.signature(cls).parameters)[1:]
        network = source.class_value(found[name], "network")
        assert network is not None
        assert network.node is not None
        definition = source.follow(network.node, network.module)
        assert source.arguments(definition) == list(inspect.signature(cls.network).parameters)


@pytest.mark.parametrize(("ids", "properties"), [(TRAINING_IDS, TrainProperties), (INFERENCE_IDS, InferProperties)])
def test_required_ids_are_monais(ids: tuple[str, ...], properties: dict[str, Any]) -> None:
    required = [p[BundlePropertyConfig.ID] for p in properties.values() if p[BundleProperty.REQUIRED]]
    assert sorted(ids) == sorted(required)


def test_sizes_are_multiples_of_the_networks_divisor() -> None:
    assert MULTIPLE == DIVISOR
