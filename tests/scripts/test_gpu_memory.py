"""A full GPU is one line, with the numbers that CUDA still gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from scripts.errors import user_message
from scripts.gpu_memory import ADVICE
from tools.common.paths import BUNDLES

GIB = 2**30
# As torch 2.13 has it.
TOLD = (
    "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 1 has a total capacity of 79.11 GiB of which 300.00 MiB is "
    "free. Including non-PyTorch memory, this process has 70.00 GiB memory in use."
)


def dead(*arguments: object) -> None:
    raise torch.AcceleratorError("CUDA error: out of memory")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets CUDA answer, each question by the number of the GPU that is asked about, or fail."""

    def set_up(peak: Callable[..., object], free: Callable[..., object]) -> None:
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", peak)
        monkeypatch.setattr(torch.cuda, "mem_get_info", free)

    return set_up


def test_numbers_are_those_of_the_gpu_that_is_full(card: Callable[..., None]) -> None:
    card({1: 70 * GIB}.get, {1: (3 * GIB // 10, 79.11 * GIB)}.get)
    assert user_message(torch.OutOfMemoryError(TOLD)) == (
        "GPU memory: expected room for a step (70.0 GiB in use by this process at its peak, another 512.00 MiB asked "
        f"for), found 0.3 GiB free of 79.1 GiB; {ADVICE}"
    )


def test_number_that_cuda_does_not_give_is_left_out(card: Callable[..., None]) -> None:
    card(dead, lambda index: (GIB, 2 * GIB))
    assert user_message(torch.OutOfMemoryError("CUDA out of memory.")) == (
        f"GPU memory: expected room for a step, found 1.0 GiB free of 2.0 GiB; {ADVICE}"
    )
    card(lambda index: 0, dead)
    assert user_message(torch.OutOfMemoryError(TOLD)) == (
        f"GPU memory: expected room for a step (another 512.00 MiB asked for), found too little; {ADVICE}"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_full_gpu_is_known_from_what_its_libraries_say(card: Callable[..., None], error: RuntimeError) -> None:
    card(dead, dead)
    assert user_message(error) == f"GPU memory: expected room for a step, found too little; {ADVICE}"


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        ValueError("CUDA error: out of memory"),
    ],
)
def test_other_errors_are_not_called_a_full_gpu(error: Exception) -> None:
    assert user_message(error) is None


def test_torch_is_not_imported_to_tell_an_error() -> None:
    code = "import sys, scripts.errors as e; print(e.user_message(RuntimeError('no')), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=BUNDLES, capture_output=True, text=True, check=True)
    assert done.stdout == "None False\n"
