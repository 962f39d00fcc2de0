"""What the tests on a GPU share.

GPU_TEST_DEVICE=cpu runs them on a CPU, which shows that the tests themselves are right. The machine with the GPU may
lack itk, pydicom and highdicom: nothing here imports them.
"""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU; without one the test is skipped."""
    chosen = torch.device(os.environ.get("GPU_TEST_DEVICE", "cuda:0"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return chosen


@pytest.fixture(autouse=True)
def exact_arithmetic() -> None:
    """Float32 means float32, and the same kernels each time."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
