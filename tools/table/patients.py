"""The scores of a comparison by patient, seed and class, as arrays: what its statistics are made of."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .results import Results

if TYPE_CHECKING:
    import numpy as np

OVERLAPS = ("dice", "jaccard")  # the higher the better; all other metrics are distances
FRAME = re.compile(r"_frame\d+$")  # the two frames of a heart, by the names of ACDC


@dataclass(frozen=True)
class PatientScores:
    """The scores of one metric.

    metric: its name.
    patients: sorted; classes: names, in the order of their numbers.
    values: by method, [S, P, C] for its seeds, the patients and the classes; nan where neither label nor prediction
        has the class.
    replaced: failures that count as the worst value.
    """

    metric: str
    patients: list[str]
    classes: list[str]
    values: Mapping[str, np.ndarray]
    replaced: int

    @property
    def sign(self) -> int:
        """1 where the higher value is the better one, else -1."""
        return 1 if self.metric in OVERLAPS else -1

    def of_class(self, name: str) -> PatientScores:
        """The scores of one class alone."""
        k = self.classes.index(name)
        values = {method: scores[..., k : k + 1] for method, scores in self.values.items()}
        return PatientScores(self.metric, self.patients, [name], values, self.replaced)


def patient_scores(results: Results, metric: str) -> PatientScores:
    """The scores of a metric, after these rules.

    A value that is missing or not finite although label or prediction has the class is a failure: it counts as the
    worst one, an overlap of 0, a distance as the largest of the comparison. A class that neither has is no part of the
    case (nan). The cases of a patient are averaged: two frames of one heart are no two patients. Who is whose is told
    by the runs; for those of older code, a case is its patient but for the number of a frame.
    """
    import numpy as np

    rows = results.runs[0].scores
    cases = sorted({row["case"] for row in rows})
    numbers = sorted({row["class"] for row in rows})
    patient = {case: results.patients.get(case, FRAME.sub("", case)) for case in cases}
    patients = sorted({*patient.values()})
    owner = np.array([patients.index(patient[case]) for case in cases])
    names = {row["class"]: row["name"] for row in rows}
    places = {(case, c): (i, k) for i, case in enumerate(cases) for k, c in enumerate(numbers)}

    values = np.full((len(results.runs), len(cases), len(numbers)), math.nan)
    failures = np.zeros_like(values, dtype=bool)
    for r, run in enumerate(results.runs):
        for row in run.scores:
            at = (r, *places[row["case"], row["class"]])
            values[at] = row[metric]
            failures[at] = not math.isfinite(row[metric]) and row["empty"] != "both"
    worst = 0.0 if metric in OVERLAPS else np.max(values, initial=0.0, where=np.isfinite(values))
    values = np.where(failures, worst, values)
    averaged = np.stack([_nanmean(values[:, owner == p], axis=1) for p in range(len(patients))], axis=1)
    by_method = {
        method: averaged[[r for r, run in enumerate(results.runs) if run.method == method]]
        for method in sorted({run.method for run in results.runs})
    }
    return PatientScores(metric, patients, [names[c] or str(c) for c in numbers], by_method, int(failures.sum()))


def average_of_classes(values: np.ndarray) -> np.ndarray:
    """Patients' averages over seeds and classes, [P], from [S, P, C]."""
    return _nanmean(_nanmean(values, axis=-1), axis=0)


def means(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Averages over the classes of their means over patients, as a table has them.

    Args:
        values: [S, P, C], nan where a class is not counted.
        counts: [D, P], how often each patient is in each of D samples.

    Returns:
        [D, S].
    """
    import numpy as np

    seeds, patients, classes = values.shape
    flat = values.transpose(1, 0, 2).reshape(patients, seeds * classes)
    known = np.isfinite(flat)
    with np.errstate(invalid="ignore"):  # a class that no patient of a sample has
        by_class = (counts @ np.where(known, flat, 0.0)) / (counts @ known)
    return _nanmean(by_class.reshape(len(counts), seeds, classes), axis=-1)


def _nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    """`numpy.nanmean`, in silence: nan where there is nothing else."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result: np.ndarray = np.nanmean(values, axis=axis)
    return result
