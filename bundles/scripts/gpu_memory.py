"""How a GPU that is full is told."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

# What CUDA, cuBLAS and cuDNN say where torch does not notice itself that memory runs out.
FULL = re.compile(r"CUDA (error: )?out of memory|_ALLOC_FAILED|DEVICE_ALLOCATION_FAILED")
ASKED, GPU = re.compile(r"Tried to allocate ([\d.]+ \w+)"), re.compile(r"GPU (\d+) has")  # in torch's message
GIB = 2**30
ADVICE = (
    "take `checkpointing` true in a training, a smaller `batch_size` or `patch_size`, fewer `--workers`, or another GPU"
)


def full_gpu(error: BaseException) -> str | None:
    """The line for an error that says that memory of a GPU ran out, with what can still be found out; else None."""
    torch = sys.modules.get("torch")  # without it, the error has another cause
    if torch is None or not isinstance(error, RuntimeError):
        return None
    message = str(error)
    if not isinstance(error, torch.OutOfMemoryError) and not FULL.search(message):
        return None
    asked, gpu = ASKED.search(message), GPU.search(message)
    index = int(gpu[1]) if gpu else None
    peak = _query(lambda: torch.cuda.max_memory_reserved(index))
    free = _query(lambda: torch.cuda.mem_get_info(index))
    about = [f"{peak / GIB:.1f} GiB in use by this process at its peak"] if peak else []
    about += [f"another {asked[1]} asked for"] if asked else []
    room = f"room for a step ({', '.join(about)})" if about else "room for a step"
    found = f"{free[0] / GIB:.1f} GiB free of {free[1] / GIB:.1f} GiB" if free else "too little"
    return f"GPU memory: expected {room}, found {found}; {ADVICE}"


def _query(ask: Callable[[], Any]) -> Any:
    """The answer of CUDA; None if it is in no state to give one."""
    try:
        return ask()
    except Exception:  # torch raises several kinds
        return None
