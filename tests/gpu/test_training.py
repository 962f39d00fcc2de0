"""Trainings on a GPU: with volumes and graphs on the device, resumed, evaluated, several at once."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.checkpoints import load_tensors
from scripts.networks import DCANet, SegmentationNet
from tests import bundle_commands as commands
from tests.bundle_runner import ROOT

pytestmark = pytest.mark.gpu
TINY = ["--preset", "demo", "--image_size", "[64,64]", "--width", "4", "--percent", "50", "--steps", "16"]


def train(device: torch.device, data: Path, folder: Path, *options: str, code: int = 0) -> str:
    """Train dca_acdc; what it said."""
    places = commands.places(data, folder)
    runner = [sys.executable, "-W", "ignore", "-m", "monai.bundle", *commands.TRAIN, *places, *TINY]
    chosen = ["--device", f"$torch.device('{device}')", "--val_steps", "8"]
    done = subprocess.run([*runner, *chosen, *options], cwd=commands.ACDC, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def weights(folder: Path) -> torch.Tensor:
    state = load_tensors(folder / "resume.pt")["method"]
    return torch.cat([value.float().flatten() for value in state.values()])


def dice(folder: Path) -> list[float]:
    with (folder / "curves.csv").open(newline="") as file:
        return [float(row["val_mean_dice"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(heart_phantom: Path, device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with all that a GPU has."""
    folder = tmp_path_factory.mktemp("trained")
    said = train(device, heart_phantom, folder, "--data_on_device", "true")
    assert "no CUDA graph" not in said
    assert "batches are made on the host" not in said
    return folder


@pytest.mark.parametrize(
    "options",
    [("--cuda_graphs", "false"), ("--data_on_device", "false")],
    ids=["steps one by one", "batches from the host"],
)
def test_a_training_ends_alike_whatever_is_switched_off(
    options: tuple[str, str], trained: Path, heart_phantom: Path, device: torch.device, tmp_path: Path
) -> None:
    train(device, heart_phantom, tmp_path, *options)
    assert len(dice(tmp_path)) == len(dice(trained)) == 2
    assert dice(tmp_path) == pytest.approx(dice(trained), abs=0.05)
    distance = (weights(tmp_path) - weights(trained)).norm() / weights(trained).norm()
    assert float(distance) < 0.05


def test_a_resumed_training_ends_like_an_unbroken_one(
    trained: Path, heart_phantom: Path, device: torch.device, tmp_path: Path
) -> None:
    stop = ["--train#handlers#4", '{"_target_": "tests.gpu.cut.CutOff", "path": "$@run_dir + \'/resume.pt\'"}']
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    places = commands.places(heart_phantom, tmp_path)
    runner = [sys.executable, "-W", "ignore", "-m", "monai.bundle", *commands.TRAIN, *places, *TINY]
    chosen = ["--device", f"$torch.device('{device}')", "--val_steps", "8", "--data_on_device", "true"]
    broken = subprocess.run(
        [*runner, *chosen, *stop], cwd=commands.ACDC, env=environment, capture_output=True, text=True, timeout=300
    )
    assert broken.returncode == 9, broken.stdout + broken.stderr
    assert load_tensors(tmp_path / "resume.pt")["iteration"] == 8
    assert "resumed" in train(device, heart_phantom, tmp_path, "--data_on_device", "true", "--resume", "true")
    distance = (weights(tmp_path) - weights(trained)).norm() / weights(trained).norm()
    assert float(distance) < 0.05


def test_a_loss_that_is_not_finite_ends_the_training_and_names_its_step(
    heart_phantom: Path, device: torch.device, tmp_path: Path
) -> None:
    said = train(device, heart_phantom, tmp_path, "--lr", "1e30", code=2)
    assert "error: training: expected a finite loss, found NaN or infinity at step " in said
    assert not (tmp_path / "resume.pt").exists()


def test_several_runs_share_the_gpu_and_are_scored(heart_phantom: Path, device: torch.device, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools", "compare", "--bundle", "dca_acdc", "--methods", "supervised,cps,dca"]
    options = ["--dataset_dir", str(heart_phantom), "--output", str(tmp_path / "all"), "--preset", "demo"]
    settings = [f"split_file={heart_phantom / 'split.json'}", "val_steps=4", "image_size=[64,64]", "width=4"]
    rest = ["--percent", "50", "--steps", "8", "--workers", "3", "--set", *settings]
    if device.type != "cuda":
        rest.append(f"device=$torch.device('{device}')")
    done = subprocess.run([*command, *options, *rest], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for method in ("supervised", "cps", "dca"):
        state = json.loads((tmp_path / "all" / method / "seed0" / "state.json").read_text())
        assert state["state"] == "done"
        assert "validation" in state


@pytest.mark.parametrize(
    ("network", "style", "dims"), [(DCANet, "unet", 2), (DCANet, "vnet", 3), (SegmentationNet, "vnet", 3)]
)
def test_torchscript_runs_there_and_equals_the_eager_network(
    network: type, style: str, dims: int, device: torch.device, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    eager = network(style, dims, 1, 3, 4).eval().to(device)
    torch.jit.script(eager).save(tmp_path / "model.ts")
    loaded = torch.jit.load(tmp_path / "model.ts", map_location=device)
    image = torch.randn(1, 1, *(21, 32, 17)[:dims], device=device)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), eager(image), atol=1e-4, rtol=1e-4)
