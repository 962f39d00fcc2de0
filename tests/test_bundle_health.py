"""Numbers that are no longer finite, and clips that cannot be, as the user of a bundle sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.checkpoints import load_tensors
from scripts.files import sha256
from tests.bundle_commands import ACDC, TRAIN, assert_one_line, places, read_table
from tests.bundle_runner import BundleRunner
from tests.packages import TINY_2D
from tools.__main__ import main

SHORT = [*TINY_2D, "--method", "mean_teacher_cp", "--percent", "50", "--steps", "4", "--val_steps", "2"]


def test_numbers_that_are_not_finite_end_a_run_in_one_line_and_leave_its_checkpoints(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    options = [*places(heart_phantom, tmp_path), *SHORT]
    runner.run([*TRAIN, *options, "--clip_gradient_norm", "1"], ACDC).check()
    rows = read_table(tmp_path / "curves.csv")
    assert all(0 < float(row["gradient_norm"]) <= float(row["gradient_norm_max"]) for row in rows)
    files = [tmp_path / name for name in ("resume.pt", "models/model.pt", "models/last.pt")]
    before = [sha256(path) for path in files]
    result = runner.run([*TRAIN, *options, "--lr", "1e30"], ACDC)
    assert_one_line(result, "NaN in loss_", " at step ", ".nii.gz (slice ", str(tmp_path / "failed.pt"))
    assert [sha256(path) for path in files] == before
    failed = load_tensors(tmp_path / "failed.pt")
    assert len(failed["images"]) == 4
    assert all(Path(image.split(" (slice")[0]).is_file() for image in failed["images"])


@pytest.mark.parametrize("value", ["0", "-1", "true"])
def test_a_clip_that_cannot_be_is_told_before_anything_is_read(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    options = ["--dataset_dir", str(heart_phantom), "--clip_gradient_norm", value]
    result = runner.run([*TRAIN, *options, "--run_dir", str(tmp_path / "run")], ACDC)
    assert_one_line(result, "clip_gradient_norm: expected a number above 0, or null for none, found ")
    assert not (tmp_path / "run").exists()
    split = ["--split_file", str(heart_phantom / "split.json")]
    assert main(["check", str(ACDC / "configs" / "train.json"), *options, *split, "--percent", "50"]) == 2
    assert "clip_gradient_norm: expected a number above 0" in capsys.readouterr().err
