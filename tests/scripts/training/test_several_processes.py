"""What training on several processes costs per step: the messages that they exchange, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import distributed
from torch.profiler import ProfilerActivity, profile

from benchmarks.scaling import make_trainer

STEPS = 3
TINY = {"spacing": [8, 8, 8], "patch_size": [16, 16, 16], "width": 4, "amp": False}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """This process alone as a group of processes."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides:UserWarning")
def test_a_step_sends_its_gradients_in_two_pieces_and_its_buffers_in_one_per_type(
    group: None, abdomen_phantom: Path, tmp_path: Path, checkpointing: bool
) -> None:
    trainer = make_trainer(abdomen_phantom, tmp_path, STEPS, checkpointing=checkpointing, **TINY)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        trainer.run()
    found = Counter(event.name for event in profiled.events() if event.name.startswith("gloo:"))
    # Reduced: two buckets of gradients, and which parameters had one. Broadcast: statistics, and counts of batches.
    assert found == {"gloo:all_reduce": 3 * STEPS, "gloo:broadcast": 2 * STEPS}
