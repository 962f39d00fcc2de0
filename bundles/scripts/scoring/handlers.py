"""Writing the scores of an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Workflow
from monai.utils import string_list_all_gather

from .metrics import SegmentationScores
from .tables import class_names, summarise, text_table, write_scores_csv

logger = logging.getLogger(__name__)


class ScoreSaver:
    """Writes the scores of an evaluation: a row per case and class, and a summary; and logs the summary.

    Where cases have a "modality", it is a column of the rows, and the summary has its means beside those of all cases.

    Args:
        scores: the metrics to write, per file name: scores["voxels"] goes to scores_voxels.csv and summary_voxels.csv.
        output_dir: folder of the files.
        labels: names of the classes.
    """

    def __init__(
        self, scores: Mapping[str, SegmentationScores], output_dir: str | Path, labels: Mapping[str | int, str]
    ) -> None:
        self.scores, self.output_dir = scores, Path(output_dir)
        self.labels = class_names(labels)
        self.cases: list[str] = []
        self.modalities: dict[str, str] = {}

    def attach(self, engine: Engine) -> None:
        """Collect the cases' ids per step, write when the evaluation is done."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset(self, engine: Engine) -> None:
        self.cases, self.modalities = [], {}

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        self.cases += [str(item["id"]) for item in batch]
        self.modalities |= {str(item["id"]): str(item["modality"]) for item in batch if item.get("modality")}

    def _write(self, engine: Workflow) -> None:
        cases = _gather(self.cases)
        modalities = dict(zip(_gather(self.modalities), _gather(self.modalities.values()), strict=True))
        for name, scores in self.scores.items():
            rows = scores.rows(cases, self.labels)
            if engine.state.rank != 0:
                continue
            if modalities:
                rows = [row | {"modality": modalities.get(row["case"], "")} for row in rows]
            summary = summarise(rows)
            write_scores_csv(self.output_dir / f"scores_{name}.csv", rows)
            write_scores_csv(self.output_dir / f"summary_{name}.csv", summary)
            logger.info(
                "%d cases, distances in %s, empty masks by policy %s (%s)\n%s\nper case: %s",
                len(set(cases)),
                scores.unit,
                scores.policy.name,
                scores.policy.description,
                text_table(summary),
                self.output_dir / f"scores_{name}.csv",
            )


def _gather(strings: Iterable[str]) -> list[str]:
    """Those of all processes in rank order; MONAI takes a process that has none for one with an empty string."""
    return [string for string in string_list_all_gather(list(strings)) if string]
