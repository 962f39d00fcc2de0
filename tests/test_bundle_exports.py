"""What deployment needs of the 3D bundles: exports that equal the network, files that MONAI's own checks accept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.checkpoints import load_tensors
from tests.bundle_commands import ACDC, AMOS, SYNAPSE
from tests.bundle_runner import ROOT, BundleRunner

CONFIGS = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json"]
SMALL = {"spacing": [8, 8, 8], "patch_size": [16, 16, 16], "width": 4}  # what TINY_3D says
# What MONAI's schema requires of metadata.json.
REQUIRED = {"schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version"}
REQUIRED |= {"required_packages_version", "task", "description", "authors", "copyright", "network_data_format"}

Network = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def exported(runner: BundleRunner, synapse_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with model.ts and model.onnx, made by MONAI's own commands."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = ["--ckpt_file", str(synapse_run[0] / "models" / "model.pt")]
    for verb, file in (("ckpt_export", "model.ts"), ("onnx_export", "model.onnx")):
        command = [verb, "network_def", "--filepath", str(folder / file), *checkpoint, *CONFIGS, "--width", "4"]
        runner.run(command, SYNAPSE).check()
    return folder


@pytest.fixture(scope="module")
def parser() -> ConfigParser:
    """The inference config in the small sizes."""
    parser = ConfigParser()
    parser.read_config(SYNAPSE / "configs" / "inference.json")
    parser.update({"bundle_root": str(SYNAPSE), **SMALL})
    return parser


@pytest.fixture(scope="module")
def eager(parser: ConfigParser, synapse_run: tuple[Path, str]) -> Network:
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(load_tensors(synapse_run[0] / "models" / "model.pt"))
    return torch.no_grad()(network.eval())


@pytest.fixture(scope="module")
def volume(parser: ConfigParser, abdomen_phantom: Path) -> torch.Tensor:
    """A preprocessed image [1, 1, *spatial]."""
    item = parser.get_parsed_content("preprocessing")({"image": str(abdomen_phantom / "images" / "abdomen005.nii.gz")})
    return item["image"].as_tensor()[None]


def assert_same(exported: torch.Tensor, eager: torch.Tensor) -> None:
    assert eager.std() > 0.01  # something to compare
    torch.testing.assert_close(exported, eager, atol=1e-4, rtol=1e-4)


def test_torchscript_equals_the_network_on_patches_of_any_size(
    exported: Path, eager: Network, volume: torch.Tensor
) -> None:
    script = torch.jit.load(exported / "model.ts")
    for size in ((16, 16, 16), (24, 17, 20)):
        patch = volume[..., 10 : 10 + size[0], 8 : 8 + size[1], 5 : 5 + size[2]]
        assert tuple(patch.shape[2:]) == size
        with torch.no_grad():
            assert_same(script(patch), eager(patch))


def test_onnx_equals_the_network(exported: Path, eager: Network, volume: torch.Tensor) -> None:
    patch = volume[..., 10:26, 8:24, 5:21].contiguous()
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: patch.numpy()})[0]
    assert_same(torch.from_numpy(found), eager(patch))


def test_what_onnx_export_needs_is_installed_by_setup_and_named_in_the_model_cards() -> None:
    pins = re.findall(r"^onnx\w*==.+$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert [pin.split("==")[0] for pin in pins] == ["onnx", "onnxscript"]
    cards = [(bundle / "docs" / "README.md").read_text() for bundle in (ACDC, SYNAPSE, AMOS)]
    exporting = [card for card in cards if "onnx_export" in card]
    assert len(exporting) == 2
    assert all(f"`pip install {' '.join(pins)}`" in card for card in exporting)


def test_torchscript_says_what_it_is(exported: Path) -> None:
    files = {"metadata.json": "", "inference.json": ""}
    torch.jit.load(exported / "model.ts", _extra_files=files)
    metadata = json.loads((SYNAPSE / "configs" / "metadata.json").read_text())
    assert json.loads(files["metadata.json"])["network_data_format"] == metadata["network_data_format"]
    assert json.loads(files["inference.json"]) == json.loads((SYNAPSE / "configs" / "inference.json").read_text())


@pytest.mark.parametrize("bundle", [SYNAPSE, AMOS], ids=lambda bundle: bundle.name)
def test_the_network_takes_and_gives_what_the_metadata_say(runner: BundleRunner, bundle: Path) -> None:
    result = runner.run(["verify_net_in_out", "network_def", *CONFIGS, "--width", "4"], bundle).check()
    assert "data shape of network is verified with no error" in result.out


@pytest.mark.parametrize("bundle", [SYNAPSE, AMOS], ids=lambda bundle: bundle.name)
def test_the_metadata_have_what_the_schema_requires(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata.keys() >= REQUIRED
    assert all(isinstance(metadata[key], dict) for key in ("changelog", "required_packages_version"))
    network = metadata["network_data_format"]
    for channels in (network["inputs"]["image"], network["outputs"]["pred"]):
        check_channels(channels)


def check_channels(channels: dict[str, Any]) -> None:
    """One input or output of the network: each channel has a name."""
    assert list(channels["channel_def"]) == [str(c) for c in range(channels["num_channels"])]
    assert len(channels["spatial_shape"]) == 3
    assert channels["dtype"] == "float32"
