"""Nothing piles up: memory and open files of 1,000 steps of a training and of 200 inferences, in one process each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from tests import memory_app
from tests.bundle_commands import ACDC
from tests.bundle_runner import BundleRunner

SMALL = {"image_size": [32, 32], "width": 2, "method": "mean_teacher_cp", "amp": False, "device": "cpu"}
GROWTH = 1.02  # what is in use at the end, of what was in use after the warm-up
Looks = list[tuple[int, int, int]]


def measure(runner: BundleRunner, folder: Path, job: dict[str, Any]) -> Looks:
    """What `memory_app` sees of a job."""
    report = folder / "report.json"
    (folder / "job.json").write_text(json.dumps({"bundle": str(ACDC), "report": str(report), **job}))
    runner.run_file(Path(memory_app.__file__), [str(folder / "job.json")], folder).check()
    looks: Looks = json.loads(report.read_text())
    return looks


def expect_flat(looks: Looks, after: list[int]) -> None:
    assert [number for number, *_ in looks] == after
    memory, files = ([look[i] for look in looks] for i in (1, 2))
    assert max(memory) <= GROWTH * memory[0], looks
    assert max(files) <= files[0], looks


def test_a_thousand_steps_take_no_more_memory_and_files_than_the_first_hundred(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    data = {"dataset_dir": str(heart_phantom), "split_file": str(heart_phantom / "split.json"), "percent": 50}
    written = {"run_dir": str(tmp_path / "run"), "ckpt_dir": str(tmp_path / "run" / "models")}
    length = {"steps": 1100, "val_steps": 100, "batch_size": [1, 1]}  # a validation and a checkpoint every 100
    after = [*range(100, 1101, 200)]
    job = {"config": "train.json", "overrides": {**SMALL, **data, **written, **length}, "engine": "train::trainer"}
    expect_flat(measure(runner, tmp_path, job | {"runs": 1, "after": after}), after)


def test_two_hundred_inferences_take_no_more_memory_and_files_than_the_first_twenty(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    parser = ConfigParser()
    parser.read_config(ACDC / "configs" / "inference.json")
    parser.update({"bundle_root": str(ACDC), **SMALL})
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    images = sorted(str(path) for path in (heart_phantom / "images").glob("*.nii.gz"))[:10]
    assert len(images) == 10
    files = {"datalist": images, "checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path / "out")}
    after = [20, 65, 110, 155, 200]
    job = {"config": "inference.json", "overrides": {**SMALL, **files}, "engine": "evaluator", "runs": 20}
    expect_flat(measure(runner, tmp_path, job | {"after": after}), after)
