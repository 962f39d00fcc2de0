"""What the configs of a bundle repeat, because inference.json must stand alone, has to agree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from scripts.validation import SCHEMAS
from tools.common.torchscript import plain_settings

BUNDLES = sorted(p.parent.parent for p in Path("bundles").glob("dca_*/configs/metadata.json"))


def config(bundle: Path, name: str) -> Any:
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=BUNDLES, ids=lambda bundle: bundle.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_a_bundle() -> None:
    assert BUNDLES


# What training and inference set each in their own way.
OWN = {"datalist", "output_dir", "imports", "checks", "initialize", "run"}  # files; what is done at the start
OWN |= {"presets", "overlap"}  # fewer settings; one that a user of MONAI Label may change for a request
OWN |= {"deep_supervision", "mirror_axes"}  # a training takes them out of its recipe, and records them


def test_whatever_training_and_inference_both_set_is_equal(bundle: Path) -> None:
    train, infer = config(bundle, "train"), config(bundle, "inference")
    different = {key for key in train.keys() & infer.keys() if train[key] != infer[key]}
    assert different <= OWN
    assert infer["inferer"] == train["validate"]["inferer"]


def test_presets_give_training_and_inference_the_same_images(bundle: Path) -> None:
    train, infer = config(bundle, "train")["presets"], config(bundle, "inference")["presets"]
    assert infer.keys() == train.keys()
    for name, settings in infer.items():
        assert settings == {key: train[name][key] for key in settings}, name


def test_a_model_is_recorded_with_all_that_inference_needs_to_know_of_its_training(bundle: Path) -> None:
    train, infer = config(bundle, "train"), config(bundle, "inference")
    recorded = train["about"]["inference"]
    assert recorded.keys() <= train.keys() & infer.keys()
    # How windows overlap and merge is free to choose for any model.
    of_the_preset = infer["presets"]["cpu"].keys() - {"overlap", "merge"}
    always = {"method", "preset", "network_options", "prediction", "width", "deep_supervision", "mirror_axes"}
    assert recorded.keys() >= of_the_preset | always
    assert all(value in (f"@{key}", f"@network_def::{key}") for key, value in recorded.items())


@pytest.mark.parametrize("preset", ["cpu", "published"])
def test_published_options_go_with_the_data_and_the_width_of_any_preset(bundle: Path, preset: str) -> None:
    chosen = {"bundle_root": str(bundle), "method": "ga", "preset": "cpu", "options_preset": preset}
    train = ConfigParser(config(bundle, "train"))
    train.update(chosen)
    recorded = train.get_parsed_content("about::inference")
    infer = ConfigParser(config(bundle, "inference"))
    infer.update({"bundle_root": str(bundle)} | recorded)
    for parser in (train, infer):
        network = parser.get_parsed_content("network_def")
        published = any(isinstance(module, torch.nn.modules.instancenorm._InstanceNorm) for module in network.modules())
        assert published == (preset == "published")
        assert parser.get_parsed_content("width") == train.get("presets")["cpu"]["width"]
    rates = {"cpu": train.get("presets")["cpu"]["lr"], "published": 0.01}
    assert train.get_parsed_content("lr") == rates[preset]


def test_published_options_bring_the_learning_rate_of_the_published_preset(bundle: Path) -> None:
    train = ConfigParser(config(bundle, "train"))
    train.update({"bundle_root": str(bundle), "options_preset": "published"})  # DCA, whose rate is the preset's
    assert train.get_parsed_content("lr") == train.get("presets")["published"]["lr"]


def test_validation_and_inference_prepare_images_alike_but_for_the_loader(bundle: Path) -> None:
    text = json.dumps(config(bundle, "inference")["preprocessing"]["transforms"][1:]).replace("@image_key", "image")
    steps = [json.loads(text), config(bundle, "train")["validate"]["preprocessing"]["transforms"][1:]]
    # One step of ours, four of MONAI's; compared by the next test.
    steps = [[step for step in part if not SCALES.search(step["_target_"])] for part in steps]
    assert steps[0] == steps[1]


SCALES = re.compile("ScaleIntensity|NormalizeIntensity")


def expected_of(way: str, image: np.ndarray) -> np.ndarray:
    """Each channel scaled in this way, the window being that of the abdomen."""
    axes = tuple(range(1, image.ndim))
    if way == "zscore":
        return (image - image.mean(axes, keepdims=True)) / image.std(axes, keepdims=True)
    ends = {"percentiles": (0.5, 99.5), "range": (0, 100)}
    low, high = np.percentile(image, ends[way], axis=axes, keepdims=True) if way in ends else (-125, 275)
    return ((image - low) / (high - low)).clip(0, 1)


@pytest.mark.parametrize("mr_scaling", [None, "percentiles"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("scaling", ["window", "percentiles", "range", "zscore"])
def test_training_validation_and_inference_scale_each_modality_alike(
    bundle: Path, scaling: str, modality: str, mr_scaling: str | None
) -> None:
    image = np.random.default_rng(0).normal(200, 300, (2, 8, 8, 8)).astype(np.float32)
    mine = {"bundle_root": str(bundle), "modality": modality, "scaling": scaling}
    if "mr_scaling" in config(bundle, "train"):
        mine["mr_scaling"] = mr_scaling
    way = (modality == "MR" and mine.get("mr_scaling")) or scaling
    for name, key in (("inference", ""), ("train", "validate::"), ("train", "train::")):
        parser = ConfigParser(config(bundle, name))
        parser.update(mine)
        steps = parser.get_parsed_content(f"{key}preprocessing").transforms
        scale = Compose([step for step in steps if SCALES.search(type(step).__name__)])
        found = scale({"image": torch.from_numpy(image), "modality": modality})["image"].numpy()
        assert np.allclose(found, expected_of(way, image), atol=1e-5), name


def test_a_config_that_bundles_share_is_one_file() -> None:
    configs = [path for folder in BUNDLES for path in (folder / "configs").iterdir()]
    files = {path.resolve(): path.read_text(encoding="utf-8") for path in configs}
    assert len(set(files.values())) == len(files) < len(configs)


def test_the_abdominal_bundles_differ_in_their_data_set_only() -> None:
    first, second = (Path("bundles") / name / "configs" for name in ("dca_synapse", "dca_amos"))
    assert {p.name for p in first.iterdir() if not (second / p.name).exists() or not p.samefile(second / p.name)} == {
        *("data_set.json", "metadata.json", "segments.json", "demo.json")
    }


def test_validation_and_inference_finish_predictions_alike_but_for_the_file(bundle: Path) -> None:
    text = json.dumps(config(bundle, "inference")["postprocessing"]["transforms"][:-1])
    text = text.replace("@image_key", "image").replace("@preprocessing", "@validate::preprocessing")
    assert json.loads(text) == config(bundle, "train")["validate"]["postprocessing"]["transforms"]


def test_classes_are_named_alike_everywhere(bundle: Path) -> None:
    data_set, metadata = config(bundle, "data_set"), config(bundle, "metadata")
    output = metadata["network_data_format"]["outputs"]["pred"]
    named = {c: name for c, name in output["channel_def"].items() if c != "0"}
    assert data_set["labels"] == named
    assert len(named) == output["num_channels"] - 1
    card = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in named.values())


def test_the_settings_of_an_export_need_no_code_of_the_bundle(bundle: Path) -> None:
    own = config(bundle, "inference")
    plain = plain_settings(own)
    assert "scripts." not in json.dumps([plain["preprocessing"], plain["postprocessing"], plain["inferer"]])
    assert plain["postprocessing"]["transforms"][-1] == own["postprocessing"]["transforms"][-1]
    assert {key for key in own if own[key] != plain[key]} <= {"preprocessing", "postprocessing"}


def test_device_is_looked_at_before_data_weights_and_other_processes(bundle: Path) -> None:
    names = [path.stem for path in (bundle / "configs").glob("*.json") if "initialize" in config(bundle, path.stem)]
    assert len(names) == 4
    for name in names:
        first = config(bundle, name)["initialize"]
        targets = [step["_target_"] if isinstance(step, dict) else step for step in first]
        assert targets[1] == "scripts.errors.report_in_one_line", name
        assert [word for word in targets[2 : targets.index("@checks")] if "memory" not in word] == [], name
    for name in ("train", "inference"):  # the others are laid on top of `train`
        assert config(bundle, name)["checks"][0]["_target_"] == "scripts.settings.expect_device"


def test_every_setting_that_has_a_range_is_checked_and_every_plain_one_has_a_range(bundle: Path) -> None:
    ranged = json.loads((SCHEMAS / "settings.json").read_text())["properties"].keys()
    for name in ("train", "inference"):
        settings = config(bundle, name)
        checked = {
            key for check in settings["checks"] for key in check if check["_target_"].endswith("expect_settings")
        }
        unused = {"dataset_dir"} if name == "inference" else set()  # where images are listed one by one
        assert checked - {"_target_"} == settings.keys() & ranged - unused, name
        named = {check.get("name") for check in settings["checks"]}
        plain = {key for key, value in settings.items() if isinstance(value, bool | int | float)}
        plain |= {key for key, value in settings.items() if str(value).startswith("$@presets[@preset]")}
        assert plain <= checked | named, name


def expressions(content: Any) -> Iterator[str]:
    if isinstance(content, str) and content.startswith("$"):
        yield content
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from expressions(value)


def test_a_config_assembles_and_does_not_compute(bundle: Path) -> None:
    names = [path.stem for path in (bundle / "configs").glob("*.json")]
    assert len(names) >= 6
    found = [text for name in names for text in expressions(config(bundle, name))]
    assert [text for text in found if len(text) > (100 if "lambda" in text else 120)] == []
    assert sum("lambda" in text for text in found) <= 5
