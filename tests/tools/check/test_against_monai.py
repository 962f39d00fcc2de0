"""What `check` says of configs is what MONAI and the bundles' code do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig

from scripts.networks.encoder_decoder import DIVISOR
from tools.check.command import INFERENCE_IDS, TRAINING_IDS
from tools.check.sizes import MULTIPLE
from tools.common.config import Config
from tools.common.findings import Findings
from tools.common.merging import load_config, parse_overrides

BUNDLES = Path(__file__).parents[3] / "bundles"
CONFIGS = BUNDLES / "dca_acdc" / "configs"
OVERRIDES = ["--lr=1e-3", "--train#trainer#max_epochs", "7", "--batch_size", "[1, 3]", "--resume", "--num_workers", "0"]
MERGES = [["train"], ["train", "evaluate"], ["train", "multi_gpu_train"], ["inference"]]


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


@pytest.mark.parametrize(("ids", "properties"), [(TRAINING_IDS, TrainProperties), (INFERENCE_IDS, InferProperties)])
def test_required_ids_are_monais(ids: tuple[str, ...], properties: dict[str, Any]) -> None:
    required = [p[BundlePropertyConfig.ID] for p in properties.values() if p[BundleProperty.REQUIRED]]
    assert sorted(ids) == sorted(required)


def test_sizes_are_multiples_of_the_networks_divisor() -> None:
    assert MULTIPLE == DIVISOR
