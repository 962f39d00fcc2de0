"""How long a step of a planned bundle takes on this machine, and how much memory: by training it for a few."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import write_json

from ..common.curves import seconds_a_step

WARM_UP, TIMED = 3, 3  # steps
GIB = 2**30
# Trains as MONAI's runner does, and says at the end how much memory that took: of the GPU where there is one.
PROGRAM = """
import json, resource, sys
from monai.bundle import run
import torch
run(run_id="training", config_file=sys.argv[1], **json.loads(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("peak", torch.cuda.max_memory_reserved() if torch.cuda.is_available() else peak)
"""


@dataclass(frozen=True)
class Measured:
    """Seconds a step after the first ones, and the most memory in bytes."""

    seconds: float
    memory: int


def measure(bundle: Path, split: Mapping[str, Any], scratch: Path) -> Measured:
    """Train a bundle for a few steps on few of its patients.

    Args:
        bundle: its folder, with data/datalist.json.
        split: content of its split file.
        scratch: a folder for what the training writes.

    Raises:
        UserError: the training failed.
    """
    (percent, labelled), *_ = split["labelled"].items()
    few = [*labelled[:2], *[p for p in split["train"] if p not in labelled][:2]]
    short = {"train": few, "labelled": {percent: labelled[:2]}, "validation": split["validation"][:1]}
    scratch.mkdir(exist_ok=True)
    write_json(scratch / "split.json", short)
    overrides = {
        "bundle_root": str(bundle),
        "split_file": str(scratch / "split.json"),
        "run_dir": str(scratch),
        "ckpt_dir": str(scratch),
        "steps": WARM_UP + TIMED,
        "epochs": 2,
        "val_interval": 99,
    }
    lines = _trained(bundle, overrides)
    return Measured(seconds_a_step(scratch / "curves.csv"), int(lines[-1].split()[1]))


def free_memory() -> float:
    """Bytes that a training can have: of the first GPU, or of the machine."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    text = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return 1024.0 * int(lines["MemAvailable"].split()[0]) if "MemAvailable" in lines else 8.0 * GIB


def _trained(bundle: Path, overrides: Mapping[str, Any]) -> Sequence[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        PROGRAM,
        str(bundle / "configs" / "train.json"),
        json.dumps(overrides),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=bundle, env=os.environ, check=False)
    if done.returncode:
        told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in told if "rror" in line]
        raise UserError(f"a trial of a few steps failed: {(errors or told or ['nothing was said'])[-1].strip()}")
    return done.stdout.splitlines()
