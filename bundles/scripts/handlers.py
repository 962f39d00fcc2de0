"""Handlers that MONAI and ignite lack: the curves of a run, and the scores of an evaluation."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Workflow
from monai.utils import string_list_all_gather

from .engine import SemiSupervisedTrainer
from .metrics import SegmentationScores
from .score_tables import summarise, text_table, write_scores_csv

logger = logging.getLogger(__name__)


def class_names(labels: Mapping[str | int, str]) -> dict[int, str]:
    """The config's {"1": "liver", ...} with class ids as numbers."""
    return {int(c): name for c, name in labels.items()}


class CurveLog:
    """Writes a row per epoch to a CSV file: step, seconds, learning rate, mean of each loss, validation scores.

    A resumed run goes on with the same file; rows of epochs that it repeats are dropped. Attach it after the validation
    handler.

    Args:
        path: the CSV file.
        validator: the validation engine; its metrics of the same epoch are in the row.
        scores: the validation's scores, for a column per class.
        labels: names of the classes for these columns.
    """

    def __init__(
        self,
        path: str | Path,
        validator: Engine | None = None,
        scores: SegmentationScores | None = None,
        labels: Mapping[str | int, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.validator, self.scores = validator, scores
        self.labels = class_names(labels or {})
        self.sums: dict[str, float] = {}
        self.steps = 0
        self.started = time.monotonic()

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Collect per step, write per epoch; only the first process does."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset(self, engine: SemiSupervisedTrainer) -> None:
        self.sums, self.steps, self.started = {}, 0, time.monotonic()

    def _add(self, engine: SemiSupervisedTrainer) -> None:
        for name, value in engine.state.output.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.steps += 1

    def _write(self, engine: SemiSupervisedTrainer) -> None:
        if engine.state.rank != 0:
            return
        row: dict[str, Any] = {
            "epoch": engine.state.epoch,
            "step": engine.state.iteration,
            "seconds": round(time.monotonic() - self.started, 1),
            "lr": engine.optimizer.param_groups[0]["lr"],
            **{name: total / max(1, self.steps) for name, total in self.sums.items()},
            **self._validation(engine.state.epoch),
        }
        rows = [*(r for r in self._earlier() if int(r["epoch"]) < engine.state.epoch), row]
        columns = dict.fromkeys(column for r in rows for column in r)  # epochs without validation have fewer
        write_scores_csv(self.path, [{column: r.get(column, "") for column in columns} for r in rows])

    def _validation(self, epoch: int) -> dict[str, float]:
        if self.validator is None or self.validator.state.epoch != epoch:
            return {}
        row: dict[str, float] = dict(self.validator.state.metrics)
        if self.scores is not None:
            for metric, means in self.scores.class_means().items():
                for c, value in enumerate(means.tolist(), start=1):
                    row[f"{metric} {self.labels.get(c, c)}"] = value
        return row

    def _earlier(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


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
