"""What goes wrong with a GPU is told in one line by training, evaluation and inference of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle_commands import ACDC, EVALUATE, INFER, TRAIN, assert_one_line, places
from tests.bundle_runner import BundleRunner
from tools.check.command import examine
from tools.common.findings import Findings

TINY = ["--image_size", "[32,32]", "--network_def::width", "4"]
SHORT = ["--percent", "50", "--steps", "2", "--val_steps", "2"]
FULL = "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')"
COMMANDS = [TRAIN, EVALUATE, INFER]
IDS = ["training", "evaluation", "inference"]


@pytest.fixture(scope="module")
def trained(runner: BundleRunner, heart_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training whose device was given as a word."""
    folder = tmp_path_factory.mktemp("trained")
    options = [*places(heart_phantom, folder), *TINY, *SHORT, "--device", "cpu"]
    runner.run([*TRAIN, *options], ACDC).check()
    return folder


def words(command: list[str], data: Path, trained: Path, folder: Path) -> list[str]:
    """The command on the phantom; it writes into a folder that is not there yet."""
    if command == TRAIN:
        return [*TRAIN, *places(data, folder), *TINY, *SHORT]
    given = [*command, "--dataset_dir", str(data), "--ckpt_dir", str(trained / "models"), "--output_dir", str(folder)]
    return [*given, *TINY, *(["--split_file", str(data / "split.json"), *SHORT] if command == EVALUATE else [])]


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
@pytest.mark.parametrize("device", ["cuda:99", "$torch.device('cuda:99')"])
def test_device_that_is_not_there_is_told_before_anything_is_written(
    runner: BundleRunner, heart_phantom: Path, trained: Path, tmp_path: Path, command: list[str], device: str
) -> None:
    given = words(command, heart_phantom, trained, tmp_path / "out")
    assert_one_line(runner.run([*given, "--device", device], ACDC), "device: expected one of this machine (cpu", ":99")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "network"),
    [(TRAIN, "train::trainer::method"), (EVALUATE, "validate::evaluator::network"), (INFER, "evaluator::network")],
    ids=IDS,
)
def test_full_gpu_is_told_in_one_line(
    runner: BundleRunner, heart_phantom: Path, trained: Path, tmp_path: Path, command: list[str], network: str
) -> None:
    own = "@train::method" if command == TRAIN else "@network"
    fails = f"$[{own}.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw({FULL})), {own}][1]"
    given = words(command, heart_phantom, trained, tmp_path / "out")
    result = runner.run([*given, f"--{network}", fails], ACDC)
    assert_one_line(result, "GPU memory: expected room for a step (", "another 2.00 GiB asked for)", "`batch_size`")


@pytest.mark.parametrize("config", ["train.json", "inference.json"])
def test_check_finds_devices_that_this_machine_does_not_have(config: str) -> None:
    found = {}
    for device in ("cpu", "tpu", "cuda:99"):
        found[device] = Findings()
        examine([ACDC / "configs" / config], ["--device", device], found[device])
    about = {
        device: [line for line in findings.problems if line.startswith("device: expected")]
        for device, findings in found.items()
    }
    assert about["cpu"] == []
    (tpu,), (other,) = about["tpu"], about["cuda:99"]
    assert "such as cpu or cuda:0, found 'tpu'" in tpu
    assert "found cuda:99" in other
