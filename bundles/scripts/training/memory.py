"""How the process holds on to memory."""

from __future__ import annotations

import ctypes
import sys

# Of mallopt(3): names of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process reuse the memory that it frees, where glibc would give it back to the system.

    A training step allocates and frees the same large tensors again and again. By default glibc maps each of them anew,
    and the system fills it with zeros page by page on first use, which takes several times longer than, for example, a
    ReLU on it. The process then keeps the memory of its largest step. Only the CPU's tensors are concerned.

    Returns:
        Whether it could be set; False where the C library is not glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
