"""Federated learning by MONAI's own client, `MonaiAlgo`, in the folder of neither the bundle nor the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.checkpoints import load_tensors
from tests import federated_app
from tests.bundle_commands import ACDC, EVALUATE
from tests.bundle_runner import BundleRunner

STEPS = 60  # of a round
SMALL = {"image_size": [32, 32], "width": 4, "amp": False, "method": "mean_teacher_cp", "lr": 0.1}


@pytest.fixture(scope="module")
def folder(runner: BundleRunner, heart_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two rounds of two sites, each with half of the patients that train."""
    folder = tmp_path_factory.mktemp("federated")
    sites = []
    split = json.loads((heart_phantom / "split.json").read_text())
    for number, patients in enumerate((["heart001", "heart003"], ["heart002", "heart004"])):
        own = split | {"train": patients, "labelled": {"50": patients[:1]}}
        (folder / f"split_{number}.json").write_text(json.dumps(own))
        site = {"bundle_root": str(ACDC), "dataset_dir": str(heart_phantom), "percent": 50, **SMALL}
        site |= {"split_file": str(folder / f"split_{number}.json"), "seed": number}
        site |= {"run_dir": str(folder / f"run_{number}"), "ckpt_dir": str(folder / f"run_{number}" / "models")}
        sites.append(site | {"steps": STEPS, "val_steps": STEPS, "federated_rounds": 2})
    job = {"bundle": str(ACDC), "sites": sites, "rounds": 2, "output": str(folder)}
    (folder / "job.json").write_text(json.dumps(job))
    runner.run_file(Path(federated_app.__file__), [str(folder / "job.json")], folder).check()
    return folder


@pytest.fixture(scope="module")
def rounds(folder: Path) -> list[dict[str, Any]]:
    report: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())
    return report


def test_each_round_trains_from_the_averaged_weights_on_one_schedule(rounds: list[dict[str, Any]]) -> None:
    assert [found["rates"] for found in rounds] == [[0.1, 0.1], pytest.approx([0.1 * 0.5**0.9] * 2)]
    assert all(0.1 < moved < 100 for found in rounds for moved in found["moved"])


def test_what_is_exchanged_is_the_predictor_and_nothing_else_that_a_method_remembers(folder: Path) -> None:
    best = load_tensors(folder / "run_0" / "models" / "model.pt")
    assert load_tensors(folder / "average_2.pt").keys() == best.keys()
    kept = load_tensors(folder / "run_0" / "resume.pt")["method"]
    assert len(kept) == 2 * len(best) + 1  # the predictor and its teacher, which has counted its steps


def test_the_best_model_of_a_site_can_be_asked_for(rounds: list[dict[str, Any]]) -> None:
    assert [found["best"] for found in rounds] == [[True, True]] * 2


def test_the_averaged_weights_are_what_is_evaluated(
    runner: BundleRunner, heart_phantom: Path, folder: Path, rounds: list[dict[str, Any]], tmp_path: Path
) -> None:
    dice = []
    for number in (1, 2):
        where = ["--dataset_dir", str(heart_phantom), "--split_file", str(folder / "split_0.json")]
        where += ["--run_dir", str(tmp_path), "--checkpoint", str(folder / f"average_{number}.pt")]
        small = [word for key, value in SMALL.items() for word in (f"--{key}", str(value).replace(" ", ""))]
        out = runner.run([*EVALUATE, *where, "--percent", "50", *small], ACDC).check().out
        found = out.split("val_mean_dice: ")[1].split()[0]
        dice.append(float(found))
        metrics = [metrics["val_mean_dice"] for metrics in rounds[number - 1]["metrics"]]
        assert metrics == pytest.approx([dice[-1]] * 2, abs=1e-4)  # both sites validate on the same patients
    assert dice[0] != dice[1] > 0.05


def test_both_sites_give_to_the_average(folder: Path) -> None:
    average, own = (load_tensors(folder / name) for name in ("average_2.pt", "run_0/models/last.pt"))
    assert not any(torch.equal(own[key], value) for key, value in average.items() if key.endswith("conv.weight"))
