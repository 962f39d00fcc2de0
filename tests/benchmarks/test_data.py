"""Steps that wait for their data: whatever the batches come out of, they are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import data
from benchmarks.jobs import difference


def test_small_steps_give_the_same_losses_whatever_their_batches_come_out_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "scripts.training.memory.keep_freed_memory", lambda: True
    )  # the suite's process is not to be changed
    data.prepare_slices(tmp_path)
    sources: list[dict[str, Any]] = [{"ready": True}, {"stored": False}, {}, {"num_workers": 2}]
    losses = [data.some_steps(2, bundle=data.SLICES, method="supervised", **one)(tmp_path)() for one in sources]
    assert all(difference(one, losses[0], 1e-6) is None for one in losses)
    assert len(set(losses[0])) == 2
