"""A training run small enough for tests: a narrow network, slices of 32 x 32, a few steps; joined as in the configs."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.metrics import Metric
from monai.data import CacheDataset, DataLoader
from monai.engines import Workflow
from monai.handlers import ValidationHandler
from monai.transforms import Compose, OneOf, RandFlipd, RandRotate90d, RandRotated, Resized, ScaleIntensityd

from scripts.data.datalists import load_split
from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.data.transforms import LoadCased
from scripts.inference.evaluator import SegmentationEvaluator
from scripts.methods import METHODS, create_predictor
from scripts.methods.base import Method
from scripts.training.engine import SemiSupervisedTrainer
from scripts.training.handlers import BestModel, CurveLog, LastModel, ResumeCheckpoint

CPU = torch.device("cpu")
BOTH = {"keys": ["image", "label"], "allow_missing_keys": True}


def augmentation() -> Compose:
    """Random transforms in one another, deeper than in the configs: a choice between two, one of them composed."""
    turns = Compose([RandRotate90d(**BOTH, prob=1.0), RandFlipd(**BOTH, prob=0.5, spatial_axis=0)])
    return Compose([OneOf([turns, RandRotated(**BOTH, prob=1.0, range_x=0.3, mode=["bilinear", "nearest"])])])


def phantom_streams(folder: Path, percent: float = 50) -> tuple[SampleDataset, SampleDataset]:
    """Labelled and unlabelled slices [1, 32, 32] of a heart phantom."""
    split = load_split(folder / "datalist.json", folder / "split.json", percent)
    load = Compose([LoadCased(num_classes=3), ScaleIntensityd("image"), Resized(**BOTH, spatial_size=(32, 32, -1))])
    labelled, unlabelled = (
        SampleDataset(CacheDataset(split[role], load, progress=False, num_workers=None), augmentation(), slice_axis=2)
        for role in ("labelled", "unlabelled")
    )
    return labelled, unlabelled


class ScriptedScore(Metric):
    """The scores of a validation that goes as told: `scores[0]` in epoch 1, and so on."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = scores
        super().__init__()

    def attach(self, engine: Workflow, name: str, *args: Any, **kwargs: Any) -> None:
        self.engine = engine
        super().attach(engine, name, *args, **kwargs)

    def reset(self) -> None:
        """Nothing is kept between epochs."""

    def update(self, output: Any) -> None:
        """Nothing is looked at."""

    def compute(self) -> float:
        return self.scores[self.engine.state.epoch - 1]


def make_method(name: str = "dca", seed: int = 0, width: int = 2, **options: Any) -> Method:
    """A method around a fresh U-Net, with that network's dropout; DCA with a group per class."""
    torch.manual_seed(seed)
    predictor = create_predictor(name, style="unet", spatial_dims=2, in_channels=1, num_classes=3, width=width)
    return METHODS[name](predictor, **options)


def make_trainer(
    folder: Path,
    streams: tuple[SampleDataset, SampleDataset | None],
    method: Method | None = None,
    epochs: int = 4,
    steps: int = 3,
    workers: int = 0,
    resume: bool = False,
    scores: Sequence[float] = (),
    validate_every: int = 1,
    handlers: Sequence[Any] = (),
    seed: int = 0,
) -> SemiSupervisedTrainer:
    """A run that writes resume.pt, last.pt and curves.csv, and with `scores` also model.pt, into `folder`."""
    method = method or make_method(seed=seed)
    loader = TwoStreamLoader(*streams, (2, 2), steps, seed, workers)
    optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    validator = make_validator(folder, method, scores) if scores else None
    validation = [ValidationHandler(validate_every, validator)] if validator is not None else []
    return SemiSupervisedTrainer(
        CPU,
        epochs,
        loader,
        method,
        optimizer,
        torch.optim.lr_scheduler.PolynomialLR(optimizer, epochs * steps, 0.9),
        train_handlers=[
            *validation,
            CurveLog(folder / "curves.csv", validator),
            *handlers,
            ResumeCheckpoint(folder / "resume.pt", resume, validator),
            LastModel(folder / "last.pt", method.predictor),
        ],
    )


def make_validator(folder: Path, method: Method, scores: Sequence[float]) -> SegmentationEvaluator:
    """A validation of one blank slice whose scores are told in advance."""
    return SegmentationEvaluator(
        CPU,
        method.predictor,
        val_data_loader=DataLoader([{"image": torch.zeros(1, 32, 32), "label": torch.zeros(1, 32, 32)}]),
        key_val_metric={"val_mean_dice": ScriptedScore(scores)},
        val_handlers=[BestModel(folder / "model.pt", method.predictor)],
    )


def curves(folder: Path) -> list[dict[str, str]]:
    """The rows of curves.csv without the time they took, which no two runs share."""
    with (folder / "curves.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def fingerprint(state: Any) -> str:
    """SHA-256 of everything in a state dict, tensors bit for bit."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key, part in value.items():
                digest.update(str(key).encode())
                add(part)
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)
        else:
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()
