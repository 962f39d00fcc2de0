"""`python -m benchmarks --device cuda`: everything in one process, and a file that is whole after every row."""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.errors import UserError
from scripts.files import write_json
from scripts.settings import expect_device

from . import SUBJECTS
from .sheet import Sheet, table
from .timing import Clock


def run(args: argparse.Namespace, about: dict[str, Any], subjects: Sequence[str]) -> int:
    """Measure the subjects on a GPU; see `measure`.

    Raises:
        UserError: the device is none of this machine, or no GPU of NVIDIA's.
    """
    expect_device("--device", args.device)
    device = torch.device(args.device)
    if device.type != "cuda":
        raise UserError(f"--device: expected cpu or cuda, found {device}; only these are measured")
    torch.cuda.set_device(device)
    return measure(subjects, Clock(device, args.repeats), args.output, {**about, "gpu": gpu(device)})


def measure(subjects: Sequence[str], clock: Clock, output: Path, about: dict[str, Any]) -> int:
    """Measure, print the table, and write the file after each row; 1 if something failed, which is in it, too.

    Args:
        subjects: some of SUBJECTS.
        clock: of the device.
        output: the file.
        about: what it tells beside the numbers.
    """
    modules = {name: importlib.import_module(SUBJECTS[name]) for name in subjects}
    done: dict[str, Any] = {}
    sheets: list[Sheet] = []

    def save(complete: bool = False) -> None:
        content = {sheet.subject: sheet.content() | done.get(sheet.subject, {}) for sheet in sheets}
        write_json(output, {**about, "complete": complete, "subjects": content}, "the measurements")

    for name, module in modules.items():
        sheets.append(sheet := Sheet(name, save))
        start = time.perf_counter()
        try:
            module.rows(sheet, clock)
        except Exception as error:  # such as an input that cannot be made; the other subjects go on
            sheet.fail("all that is missing", error)
        done[name] = {"seconds": time.perf_counter() - start}
    save(complete=True)
    print(table({sheet.subject: sheet.content() for sheet in sheets}))
    print(f"wrote {output}", file=sys.stderr)
    return 1 if any(sheet.failed for sheet in sheets) else 0


def gpu(device: torch.device) -> dict[str, Any]:
    """The card, its memory and driver, and the versions of CUDA and cuDNN; None for a driver that nobody tells."""
    card = torch.cuda.get_device_properties(device)
    return {
        "name": card.name,
        "memory_gib": round(card.total_memory / 2**30, 1),
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def driver() -> str | None:
    """The version of NVIDIA's driver, as nvidia-smi tells it, where there is one."""
    if shutil.which("nvidia-smi") is None:
        return None
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = done.stdout.split() if done.returncode == 0 else []
    return lines[0] if lines else None
