"""Inference of a whole CT on a GPU, from loading it to the label map saved: inference.json against stock MONAI."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..inference import STOCK, prepare, runs
from .sheet import Numbers, Sheet
from .timing import Clock

SIZE, TIMES = (256, 256, 200), 2  # drawn, and enlarged to 512 x 512 x 400
ROUNDS = 2  # at most: a case takes seconds
OF_SECONDS, OF_PEAK, DICE = 0.2, 0.25, 1e-3


def rows(
    sheet: Sheet,
    clock: Clock,
    settings: Mapping[str, Any] | None = None,
    size: Sequence[int] = SIZE,
    times: int = TIMES,
) -> None:
    """Segment the phantom in both ways, and note the goals.

    Args:
        sheet, clock: for the numbers.
        settings: of inference.json, for both; None for the clock's device alone.
        size, times: see `inference.prepare`.
    """
    settings = settings or {"device": f"$torch.device('{clock.device}')"}
    clock = replace(clock, rounds=min(clock.rounds, ROUNDS), warm_up=1)
    name = "x".join(str(times * n) for n in size)
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        prepare(Path(folder), size, times)
        stock = sheet.row(
            f"{name}: stock MONAI, float32", partial(segmented, clock, Path(folder), {**STOCK, **settings})
        )
        ours = sheet.row(f"{name}: inference.json", partial(segmented, clock, Path(folder), settings))
    if stock is None or ours is None:
        return
    seconds = max(ours["ms"][kind] / stock["ms"][kind] for kind in ("minimum", "median"))
    sheet.goal(f"{name}: seconds, to those of stock MONAI", seconds, OF_SECONDS)
    if "peak_gib" in ours:
        sheet.goal(f"{name}: peak memory, to that of stock MONAI", ours["peak_gib"] / stock["peak_gib"], OF_PEAK)
    sheet.goal(f"{name}: difference of the mean Dice", abs(ours["dice"] - stock["dice"]), DICE)


def segmented(clock: Clock, folder: Path, settings: Mapping[str, Any]) -> Numbers:
    """What `Clock.timed` says of the inference of the folder's image, and the mean Dice of the label map."""
    scores: list[Callable[[], float]] = []

    def make() -> Callable[[], None]:
        run = runs(dict(settings))(folder)
        return lambda: scores.append(run())

    numbers = clock.timed(make)
    return {**numbers, "dice": scores[-1]()}
