"""What training on several processes costs per step: the messages that they exchange, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.profiler import ProfilerActivity, profile

from tools.benching.scaling import make_trainer

STEPS = 3
TINY = {"spacing": [8, 8, 8], "patch_size": [16, 16, 16], "width": 4, "amp": False}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """This process alone as a group of processes."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides:UserWarning")
def test_messages_per_step(group: None, abdomen_phantom: Path, tmp_path: Path) -> None:
    trainer = make_trainer(abdomen_phantom, tmp_path, STEPS, **TINY)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        trainer.run()
    found = Counter(event.name for event in profiled.events() if "gloo" in event.name or "c10d" in event.name)
    print(found)
    assert 0
