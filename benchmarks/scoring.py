"""Scores of a whole CT, 13 organs and background: this project's metrics against medpy's, called as is usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .jobs import Job, Variant

if TYPE_CHECKING:
    import numpy as np

SIZE = (256, 256, 150)
ORGANS = 13
MOVES = (-2, -1, 1, 2)  # voxels along an axis
Scores = dict[str, list[float]]


def prepare(folder: Path, size: Sequence[int] = SIZE) -> None:
    """Write label.npy, of the abdominal phantom, and prediction.npy: each organ moved a little, every other one eroded.

    Args:
        folder: where to.
        size: voxels along x, y, z.
    """
    import numpy as np
    from scipy import ndimage

    from tools.phantom import abdomen

    rng = np.random.default_rng(0)
    [(_, _, label)] = abdomen.draw(size, rng)
    prediction = np.zeros_like(label)
    for organ in range(1, ORGANS + 1):
        mask = _moved(label == organ, rng.choice(MOVES, label.ndim))
        eroded = ndimage.binary_erosion(mask) if organ % 2 else mask
        prediction[eroded if eroded.any() else mask] = organ
    np.save(folder / "label.npy", label)
    np.save(folder / "prediction.npy", prediction)


def with_medpy(folder: Path) -> Callable[[], Scores]:
    """A mask per class at the image's size, and medpy's four functions on it."""
    from medpy.metric import binary

    prediction, label = _load(folder)
    functions = {"dice": binary.dc, "jaccard": binary.jc, "hd95": binary.hd95, "asd": binary.asd}

    def run() -> Scores:
        scores: Scores = {metric: [] for metric in functions}
        for organ in range(1, ORGANS + 1):
            predicted, labelled = prediction == organ, label == organ
            for metric, function in functions.items():
                scores[metric].append(float(function(predicted, labelled)))
        return scores

    return run


def with_ours(folder: Path) -> Callable[[], Scores]:
    """`scripts.scoring.metrics.case_scores`."""
    from scripts.scoring.metrics import DEFAULT_METRICS, case_scores

    prediction, label = _load(folder)

    def run() -> Scores:
        scores = case_scores(prediction, label, ORGANS, metrics=DEFAULT_METRICS)
        return {metric: scores[metric].tolist() for metric in DEFAULT_METRICS}

    return run


JOBS = (
    Job(
        "scores of a case",
        variants=(Variant("medpy", with_medpy), Variant("scripts.scoring.metrics", with_ours)),
        prepare=prepare,
        tolerance=1e-6,
        goal_speedup=15,
        needs=("medpy",),
    ),
)


def _load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.load(folder / "prediction.npy"), np.load(folder / "label.npy")


def _moved(mask: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The mask moved by some of MOVES; what leaves the image is lost."""
    import numpy as np

    margin = max(MOVES)
    starts = margin - by
    window = tuple(slice(start, start + n) for start, n in zip(starts, mask.shape, strict=True))
    moved: np.ndarray = np.pad(mask, margin)[window]
    return moved
