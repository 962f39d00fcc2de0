"""How sure the figures of a comparison are: intervals, paired tests with correction, and how stable the ranking is.

A draw of the bootstrap is one set of patients for all methods, and for each method as many of its seeds, both with
replacement. Equal seeds of two methods are no pair.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .patients import PatientScores, average_of_classes, means

if TYPE_CHECKING:
    import numpy as np

DRAWS = 2000
SEED = 0
LEVEL = 0.05
Interval = tuple[float, float]
UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class Estimate:
    """A method's mean over patients and seeds.

    mean: the average over the classes of their means, as in the table.
    interval: from the 2.5th to the 97.5th percentile of its draws; nan with a single patient.
    deviation: of the seeds' means, with ddof 1; nan with a single seed.
    draws: its means in the draws, [D].
    """

    mean: float
    interval: Interval
    deviation: float
    draws: np.ndarray


@dataclass(frozen=True)
class Difference:
    """A method less the reference.

    mean, interval: as of `Estimate`, in the same draws.
    p: of Wilcoxon's signed-rank test on the patients' averages over seeds, exact and two-sided.
    corrected: p after Holm's correction for all methods that are compared with the reference.
    """

    mean: float
    interval: Interval
    p: float
    corrected: float


@dataclass(frozen=True)
class Ranking:
    """Where a method stands among those that compete; equal values share the better rank.

    by_mean: rank of the mean; by_patient: of the mean of its ranks in single patients; by_tests: of the number of
    methods that it beats significantly (Wilcoxon, one-sided, 0.05, not corrected).
    first: share of the draws in which it is first. mean, interval: of its rank by mean in the draws.
    """

    by_mean: int
    by_patient: int
    by_tests: int
    first: float
    mean: float
    interval: Interval


@dataclass(frozen=True)
class Stability:
    """How much the ranking by mean depends on the patients.

    tau: mean and quartiles of Kendall's tau-b between the ranking and those of the draws.
    first_changes, order_changes: of the rankings without one patient, those with another first, and with any change.
    """

    tau: float
    quartiles: Interval
    first_changes: int
    order_changes: int


def estimates(scores: PatientScores) -> dict[str, Estimate]:
    """The mean of every method, with its interval."""
    import numpy as np

    patients = len(scores.patients)
    drawn = np.random.default_rng(SEED).integers(0, patients, (DRAWS, patients))
    counts = (drawn[:, :, None] == np.arange(patients)).sum(1, dtype=float)
    found = {}
    for method, values in scores.values.items():
        seeds = means(values, np.ones((1, patients)))[0]
        # By name, so that another method in the table changes nothing.
        choice = np.random.default_rng([SEED, zlib.crc32(method.encode())]).integers(0, len(seeds), (DRAWS, len(seeds)))
        draws = np.take_along_axis(means(values, counts), choice, axis=1).mean(1)
        deviation = float(seeds.std(ddof=1)) if len(seeds) > 1 else math.nan
        found[method] = Estimate(float(seeds.mean()), _interval(draws) if patients > 1 else UNKNOWN, deviation, draws)
    return found


def differences(
    scores: PatientScores, found: Mapping[str, Estimate], methods: Sequence[str], reference: str
) -> dict[str, Difference]:
    """What separates each of the methods from the reference, which may be among them."""
    import numpy as np
    from scipy.stats import wilcoxon

    others = [method for method in methods if method != reference]
    values = {method: average_of_classes(scores.values[method]) for method in (*others, reference)}
    p = [float(wilcoxon(values[m] - values[reference], method="exact", nan_policy="omit").pvalue) for m in others]
    return {
        method: Difference(
            found[method].mean - found[reference].mean,
            _interval(np.subtract(found[method].draws, found[reference].draws))
            if len(scores.patients) > 1
            else UNKNOWN,
            one,
            corrected,
        )
        for method, one, corrected in zip(others, p, holm(p), strict=True)
    }


def holm(p: Sequence[float]) -> list[float]:
    """Values of p after Holm's step-down correction for as many tests as there are.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


def smallest_p(patients: int) -> float:
    """The smallest p that the exact two-sided signed-rank test can have."""
    return min(1.0, 2.0 ** (1 - patients))


def rankings(scores: PatientScores, found: Mapping[str, Estimate], methods: Sequence[str]) -> dict[str, Ranking]:
    """The ranks of methods by three rules, and those by mean in the draws."""
    import numpy as np

    by_mean = _ranks(_of_all(found, methods, scores.sign)[:, None])[:, 0]
    in_draws = _ranks(scores.sign * np.stack([found[method].draws for method in methods]))
    by_patient = np.stack([average_of_classes(scores.values[method]) for method in methods])
    of_patients = np.nanmean(_ranks(scores.sign * by_patient), axis=1)
    by_tests = _ranks(_beaten(scores.sign * by_patient)[:, None])[:, 0]
    by_rank = _ranks(-of_patients[:, None])[:, 0]
    return {
        method: Ranking(
            int(by_mean[i]),
            int(by_rank[i]),
            int(by_tests[i]),
            float((in_draws[i] == 1).mean()),
            float(in_draws[i].mean()),
            _interval(in_draws[i]),
        )
        for i, method in enumerate(methods)
    }


def stability(scores: PatientScores, found: Mapping[str, Estimate], methods: Sequence[str]) -> Stability | None:
    """How stable the ranking of methods by mean is; None if there is nothing to rank, or nothing to leave out."""
    import numpy as np
    from scipy.stats import kendalltau

    patients = len(scores.patients)
    if len(methods) < 2 or patients < 2:
        return None
    full = _ranks(_of_all(found, methods, scores.sign)[:, None])
    in_draws = _ranks(scores.sign * np.stack([found[method].draws for method in methods]))
    tau = kendalltau(np.broadcast_to(full, in_draws.shape), in_draws, axis=0).statistic
    tau = tau[np.isfinite(tau)]  # nan: all methods are equal in this draw
    without = np.stack([means(scores.values[m], 1 - np.eye(patients)).mean(1) for m in methods])
    left = _ranks(scores.sign * without)
    quartiles = tuple(map(float, np.quantile(tau, (0.25, 0.75)))) if len(tau) else UNKNOWN
    return Stability(
        float(tau.mean()) if len(tau) else math.nan,
        (quartiles[0], quartiles[1]),
        int(((left == 1) != (full == 1)).any(0).sum()),
        int((left != full).any(0).sum()),
    )


def _of_all(found: Mapping[str, Estimate], methods: Sequence[str], sign: int) -> np.ndarray:
    import numpy as np

    return np.array([sign * found[method].mean for method in methods])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 in every column, the highest value first; [methods, columns]."""
    from scipy.stats import rankdata

    ranks: np.ndarray = rankdata(-values, method="min", axis=0, nan_policy="omit")
    return ranks


def _beaten(values: np.ndarray) -> np.ndarray:
    """How many others each method beats significantly, from the patients' values with the higher the better, [M, P]."""
    import numpy as np
    from scipy.stats import wilcoxon

    count = len(values)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    beaten = np.zeros(count)
    if pairs:
        first, second = np.array(pairs).T
        test = wilcoxon(
            values[first] - values[second], method="exact", alternative="greater", axis=1, nan_policy="omit"
        )
        np.add.at(beaten, first, test.pvalue < LEVEL)
    return beaten


def _interval(draws: np.ndarray) -> Interval:
    import numpy as np

    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2))
    return float(low), float(high)
