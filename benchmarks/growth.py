"""How time and memory grow: with the voxels of an image, the classes, the voxels of a patch, and the cases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import steps
from .jobs import Job, Variant
from .startup import check_words, command

VOLUMES = ((96, 96, 64), (128, 128, 96), (192, 192, 128), (256, 256, 192))
CLASSES = (4, 14, 16, 105)  # of the heart, the two abdominal data sets, and whole-body CT; with the background
PATCHES = (48, 64, 80, 96)
CASES = (4, 8, 16, 32)
IMAGE = (128, 128, 96)
PATCH, WIDTH = 48, 8
AT_MOST = 1.1  # the exponent: linear, and the error of a fit through four points


def image_of(folder: Path, size: Sequence[int]) -> Path:
    """Where `prepare_images` writes the image of a size."""
    return folder / f"image_{'x'.join(map(str, size))}.nii.gz"


def prepare_images(sizes: Sequence[Sequence[int]], classes: Sequence[int], folder: Path) -> None:
    """Write images of the abdominal phantom of each size, and untrained models with each number of classes."""
    import nibabel as nib
    import numpy as np
    import torch

    from tools.phantom import abdomen

    for size in sizes:
        [(_, image, _)] = abdomen.draw(size, np.random.default_rng(0))
        affine = np.diag([*np.multiply(abdomen.ORIENTATION, abdomen.spacing(size)), 1.0])
        nib.Nifti1Image(image, affine).to_filename(image_of(folder, size))
    for number in classes:
        (folder / str(number)).mkdir()
        network = steps.predictor(steps.Task(PATCH, organs=number - 1, width=WIDTH))
        torch.save(network.state_dict(), folder / str(number) / "model.pt")


def segment(size: Sequence[int], classes: int) -> Callable[[Path], Callable[[], None]]:
    """The abdominal bundle's inference on one image, from the file to the file."""

    def make(folder: Path) -> Callable[[], None]:
        from .inference import evaluator

        model = folder / str(classes) / "model.pt"
        run: Callable[[], None] = evaluator(image_of(folder, size), model, folder, {"num_classes": classes - 1}).run
        return run

    return make


def score(size: Sequence[int], classes: int) -> Callable[[Path], Callable[[], None]]:
    """All metrics of a case whose organs are boxes side by side; the prediction is the label, moved by a voxel."""

    def make(folder: Path) -> Callable[[], None]:
        import numpy as np

        from scripts.scoring.metrics import DEFAULT_METRICS, case_scores

        side = int(np.ceil((classes - 1) ** 0.5))
        x, y = (np.arange(n) * side // n for n in size[:2])
        middle = slice(size[2] // 4, -(size[2] // 4))
        label = np.zeros(size, np.uint8)
        label[..., middle] = ((x[:, None] * side + y + 1) % classes)[..., None]
        prediction = np.roll(label, 1, axis=2)

        def run() -> None:
            case_scores(prediction, label, classes - 1, metrics=DEFAULT_METRICS)

        return run

    return make


def train(size: int, classes: int) -> Callable[[Path], Callable[[], Any]]:
    """A training step of DCA."""
    return lambda folder: steps.as_it_is(steps.Task(size, organs=classes - 1, width=WIDTH))


def prepare_cases(folder: Path) -> None:
    """Make phantoms of each number of cases."""
    from tools.phantom.command import make_phantom

    for cases in CASES:
        data = folder / str(cases) / "data"
        make_phantom("abdomen", data, cases=cases - 2, labelled=1, validation=1, test=1, size=(64, 64, 48), percent=50)


def check(cases: int) -> Callable[[Path], Callable[[], str]]:
    """`check` of a training config on so many cases."""

    return command(["-m", "tools"], lambda folder: check_words(folder / str(cases)))


def _voxels(size: Sequence[int]) -> int:
    return functools.reduce(lambda a, b: a * b, size)


def _job(name: str, amounts: Sequence[int], makes: Sequence[Callable[[Path], Callable[[], Any]]], **more: Any) -> Job:
    variants = [Variant(f"{amount:,}", make) for amount, make in zip(amounts, makes, strict=True)]
    return Job(name, variants, amounts=amounts, goal_exponent=AT_MOST, **more)


JOBS = (
    _job(
        "inference by voxels",
        [_voxels(size) for size in VOLUMES],
        [segment(size, 14) for size in VOLUMES],
        prepare=functools.partial(prepare_images, VOLUMES, (14,)),
    ),
    _job(
        "inference by classes",
        CLASSES,
        [segment(IMAGE, classes) for classes in CLASSES],
        prepare=functools.partial(prepare_images, (IMAGE,), CLASSES),
    ),
    _job("scores by voxels", [_voxels(size) for size in VOLUMES], [score(size, 14) for size in VOLUMES]),
    _job("scores by classes", CLASSES, [score(IMAGE, classes) for classes in CLASSES]),
    _job("step by voxels of a patch", [size**3 for size in PATCHES], [train(size, 14) for size in PATCHES]),
    _job("step by classes", CLASSES, [train(PATCH, classes) for classes in CLASSES]),
    _job("check by cases", CASES, [check(cases) for cases in CASES], prepare=prepare_cases),
)
