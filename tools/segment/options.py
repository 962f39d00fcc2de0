"""The options of `segment`: a field of `Options` here and an argument of the same name in command.py, no more."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FORMATS = ("nifti", "seg", "csv")
# The results do not depend on these, or are known by something else: the weights' hash instead of the model's path.
NOT_RECORDED = {"model", "device", "series", "overwrite", "settings"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to segment; the order is that of the record of a finished case.

    model: model.pt, or the folder that holds it; None takes the bundle's. What model.json beside it says of method,
        preset and network goes before the bundle's settings.
    device: such as "cpu" or "cuda:0"; None takes the bundle's choice.
    series: SeriesInstanceUID of the only DICOM series wanted; None takes all that suit the bundle.
    overwrite: repeat finished cases.
    fast: fewer and larger windows, and no disagreement (see docs/how-to/segment.md for what it costs).
    formats: what to write, of "nifti", "seg" and "csv".
    probabilities: write the probability of every class, too.
    disagreement: write where the experts disagree, too.
    phases: of a cine, counted from 0; None chooses end-diastole and end-systole.
    settings: other settings of the bundle's inference.json, as KEY=VALUE; `--set` on the command line.
    """

    model: Path | None = None
    device: str | None = None
    series: str | None = None
    overwrite: bool = False
    fast: bool = False
    formats: Sequence[str] = FORMATS
    probabilities: bool = False
    disagreement: bool = False
    phases: Sequence[int] | None = None
    settings: Sequence[str] = ()

    @classmethod
    def of(cls, args: argparse.Namespace) -> Options:
        """The options among the arguments of a command line."""
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})

    def words(self) -> list[str]:
        """The arguments of `segment` that choose these options."""
        chosen = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        settings = chosen.pop("settings", ())
        words = [word for name, value in chosen.items() for word in (f"--{name}", *_value(value))]
        return [*words, "--set", *settings] if settings else words

    def recorded(self) -> dict[str, Any]:
        """What the results depend on, as the record of a finished case holds it."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NOT_RECORDED}
        return chosen | {"formats": sorted(self.formats), "set": sorted(self.settings)}


def _value(value: Any) -> list[str]:
    """What follows the name of an option."""
    if value is True:
        return []
    return [",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
