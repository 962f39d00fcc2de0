"""What the tests that run bundles share: the commands, what a run leaves behind, and how a mistake has to be told."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.checkpoints import load_tensors
from tests.bundle_runner import ENVIRONMENT, ROOT, BundleRunner, Result
from tests.tiny_training import curves, fingerprint

ACDC, SYNAPSE, AMOS = (ROOT / "bundles" / name for name in ("dca_acdc", "dca_synapse", "dca_amos"))
TRAIN = ["run", "training", "--config_file", "configs/train.json"]
TRAIN_PARALLEL = ["run", "training", "--config_file", "['configs/train.json','configs/multi_gpu_train.json']"]
EVALUATE = ["run", "evaluating", "--config_file", "['configs/train.json','configs/evaluate.json']"]
INFER = ["run", "inference", "--config_file", "configs/inference.json"]

# A 3D network and patch of the least size. In float32: torch's bfloat16 gradients of a 3D convolution are wrong where
# the feature map is two voxels long along its first axis, as one of a patch of 16 is.
TINY_3D = ["--spacing", "[8,8,8]", "--patch_size", "[16,16,16]", "--width", "4", "--amp", "false"]
STEPS_3D = ["--percent", "10", "--steps", "4", "--val_steps", "2"]

# That a config is code, and that a decoder of DICOM files is not installed.
MONAI_NOTES = ("parsing config_file ", "NvImgCodecPydicomReader: ", "nvImageCodec is not available")


def places(data: Path, folder: Path) -> list[str]:
    """Data from `data`, everything that is written into `folder`."""
    keys = {"dataset_dir": data, "split_file": data / "split.json", "run_dir": folder, "ckpt_dir": folder / "models"}
    return [part for key, path in keys.items() for part in (f"--{key}", str(path))]


def shell(*command: str, cwd: Path) -> Result:
    """Run a command in a process of its own."""
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    return Result(done.returncode, done.stdout, done.stderr)


def torchrun(*arguments: str, cwd: Path) -> Result:
    """`torchrun --nproc_per_node 2 -m monai.bundle ARGUMENTS`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return shell(*launcher, "-m", "monai.bundle", *arguments, cwd=cwd)


def state(folder: Path) -> dict[str, str]:
    """Fingerprints of all parts of the checkpoint of a run, and of its best model."""
    parts = load_tensors(folder / "resume.pt") | {"model.pt": load_tensors(folder / "models" / "model.pt")}
    return {key: fingerprint(value) for key, value in parts.items()}


def assert_resumes_exactly(
    runner: BundleRunner, bundle: Path, options: list[str], folder: Path, unbroken: Path
) -> None:
    """A run from the repository root, killed in its second save and resumed, equals the `unbroken` one."""
    config, root = (str(path.relative_to(ROOT)) for path in (bundle / "configs" / "train.json", bundle))
    command = ["run", "run", "--config_file", config, "--bundle_root", root, *options]
    killed = runner.kill_in_save(2, command, ROOT)
    assert killed.code == -9, killed.out + killed.error
    partial = (folder / "resume.pt.partial").stat().st_size
    assert 0 < partial < (folder / "resume.pt").stat().st_size
    assert load_tensors(folder / "resume.pt")["epoch"] == 1
    resumed = runner.run([*command, "--resume", "true"], ROOT).check()
    assert "resumed" in resumed.out
    assert "after epoch 1, step 2" in resumed.out
    assert state(folder) == state(unbroken)
    assert curves(folder) == curves(unbroken)
    assert not (folder / "resume.pt.partial").exists()


def assert_one_line(result: Result, *parts: str) -> None:
    """Exit code 2, and on stderr, beside what MONAI says in every run, one line that holds the parts."""
    assert result.code == 2, result.out + result.error
    lines = [line for line in result.error.splitlines() if not line.startswith(MONAI_NOTES)]
    assert len(lines) == 1, result.error
    assert lines[0].startswith("error: ")
    assert all(part in lines[0] for part in parts), lines[0]
    assert "Traceback" not in result.out


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite a JSON file with what `change` makes of its content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
