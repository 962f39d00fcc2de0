"""Inference of a CT: stock MONAI and the bundle, of the same windows, segment alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.inference import MODEL, STOCK, prepare, runs

# What bundle_commands.TINY_3D says.
SMALL = {"spacing": [8, 8, 8], "patch_size": [16, 16, 16], "width": 4, "amp": False, "device": "$torch.device('cpu')"}


def test_both_ways_save_a_label_map_of_the_same_dice(
    synapse_run: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL, str(synapse_run[0] / "models" / "model.pt"))
    prepare(tmp_path, size=(48, 48, 40), times=2)
    stock, ours = (runs(settings | SMALL)(tmp_path) for settings in (STOCK, {"overlap": 0.5}))
    for _ in range(2):  # a bench runs them over and over
        assert ours()() == pytest.approx(stock()(), abs=1e-4)
    assert len(list(tmp_path.glob("*/image_seg.nii.gz"))) == 2
