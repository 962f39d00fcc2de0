"""Seconds and memory of calls on a device that works while the host goes on."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..measuring import spread

GIB = 2**30
MOST = 200  # calls in a round


@dataclass(frozen=True)
class Clock:
    """Measures calls on a device.

    Args:
        device: where the calls work; a CPU has no peak.
        rounds: how often a number of calls is timed.
        seconds: how long a round takes at least, as long as `MOST` calls last that long.
        warm_up: calls that are not timed: three before a step is captured, its capture, and one replay.
    """

    device: torch.device
    rounds: int = 3
    seconds: float = 0.25
    warm_up: int = 5

    def wait(self) -> None:
        """Until the device has done all it was told to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, make: Callable[[], Callable[[], Any]]) -> dict[str, Any]:
        """Milliseconds of a call, {"minimum", "median", "all"}; its peak memory; and seconds until it was warm.

        Args:
            make: builds what the call needs, and returns it; counts for the memory and for the seconds of the start.
        """
        with self.memory() as peak:
            start = time.perf_counter()
            call = make()
            for _ in range(self.warm_up):
                call()
            self.wait()
            ready = time.perf_counter() - start
            once = self._seconds(call, 1)
            calls = min(MOST, max(1, math.ceil(self.seconds / once)))
            rounds = [once] if calls == 1 else []
            while len(rounds) < self.rounds:
                rounds.append(self._seconds(call, calls) / calls)
        return {"ms": spread([1000 * one for one in rounds]), "start_s": ready, **peak}

    def _seconds(self, call: Callable[[], Any], times: int) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            call()
        self.wait()
        return time.perf_counter() - start

    @contextmanager
    def memory(self) -> Iterator[dict[str, float]]:
        """Fills in the peak of what is allocated within it, and of what torch reserves for that; GiB.

        What a captured step holds is its own: the two differ by that and by what is lost to fragments.
        """
        peak: dict[str, float] = {}
        if self.device.type != "cuda":
            yield peak
            return
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)
        yield peak
        peak["peak_gib"] = (torch.cuda.max_memory_allocated(self.device) - before[0]) / GIB
        peak["reserved_gib"] = (torch.cuda.max_memory_reserved(self.device) - before[1]) / GIB
