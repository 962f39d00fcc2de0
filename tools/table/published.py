"""The figures of the published tables, and where these contradict themselves."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).resolve().parent / "published_results.csv"
AVERAGE = "average"  # the region that is the mean over the classes
# What the rounding of the printed figures explains stays below these, in percent or voxels.
AVERAGE_TOLERANCE = 0.06
JACCARD_TOLERANCE = 0.15

Place = tuple[str, str]  # metric and region: where in a row a figure stands


@dataclass(frozen=True)
class Figure:
    """A figure and its standard deviation, if there is one, as they are printed."""

    value: str
    std: str = ""

    def __str__(self) -> str:
        return f"{self.value} ± {self.std}" if self.std else self.value


@dataclass(frozen=True)
class PublishedRow:
    """A method's row in a published table.

    group: supervised, general, imbalance, dca or ablation.
    name: what `--method` takes; method: what the table calls it.
    figures: by metric and region; dice and jaccard in percent, hd95 and asd in voxels.
    """

    group: str
    name: str
    method: str
    figures: dict[Place, Figure] = field(default_factory=dict)

    def wrong_averages(self) -> dict[Place, str]:
        """Averages that are not the mean of the printed classes, with what they contradict."""
        found = {}
        for metric, region in self.figures:
            classes = [self._value(metric, other) for m, other in self.figures if m == metric and other != AVERAGE]
            if region == AVERAGE and classes:
                printed, mean = self._value(metric, AVERAGE), math.fsum(classes) / len(classes)
                if abs(mean - printed) > AVERAGE_TOLERANCE:
                    found[metric, region] = f"{metric} {printed:.2f}, mean of its classes {mean:.2f}"
        return found

    def impossible_jaccards(self) -> dict[Place, str]:
        """Mean Jaccards J below D / (2 - D), the least that the mean Dice D beside them allows.

        J = D / (2 - D) holds in each case, and is convex in D: so the mean of J is at least that of the mean D.
        """
        found = {}
        for metric, region in self.figures:
            if metric == "jaccard" and ("dice", region) in self.figures:
                jaccard, dice = self._value(metric, region), self._value("dice", region) / 100
                least = 100 * dice / (2 - dice)
                if jaccard < least - JACCARD_TOLERANCE:
                    found[metric, region] = f"{region} {jaccard:.2f}, at least {least:.2f}"
        return found

    def _value(self, metric: str, region: str) -> float:
        return float(self.figures[metric, region].value)


def read_published(path: Path = FILE) -> dict[tuple[str, float], dict[str, PublishedRow]]:
    """The rows by data set (acdc, synapse, amos) and labelled percentage, then by the method's name, as printed."""
    tables: dict[tuple[str, float], dict[str, PublishedRow]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(_without_comments(file)):
            table = tables.setdefault((line["dataset"], float(line["percent"])), {})
            row = table.setdefault(line["name"], PublishedRow(line["group"], line["name"], line["method"]))
            row.figures[line["metric"], line["region"]] = Figure(line["value"], line["std"])
    return tables


def _without_comments(lines: Iterable[str]) -> Iterable[str]:
    return (line for line in lines if not line.startswith("#"))
