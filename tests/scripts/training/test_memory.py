"""Memory that is kept: what is freed is mostly used again without page faults."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from tools.common.paths import BUNDLES

# Fills and frees 512 MiB again and again, and prints the page faults of all rounds but the first.
FAULTS = """
import resource, sys
import torch
from scripts.training.memory import keep_freed_memory

def work():
    held = [torch.ones(1 << 26, dtype=torch.uint8) for _ in range(8)]

if sys.argv[1] == "kept":
    assert keep_freed_memory()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    run = subprocess.run([sys.executable, "-c", FAULTS, word], cwd=BUNDLES, check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_freed_memory_is_mostly_used_again_without_faults() -> None:
    assert faults("kept") < faults("as it is") / 3


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.training.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
