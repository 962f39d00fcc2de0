"""Training data: a batch out of NIfTI files, memory and the store, and steps that wait for their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .jobs import BUNDLE, Job, Variant

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser

SIZE = (256, 256, 150)  # voxels of 1.5 x 1.5 x 2.7 mm
STEPS = 4

Batch = dict[str, "torch.Tensor"]


def prepare(folder: Path, size: tuple[int, int, int] = SIZE) -> None:
    """Make a phantom of two labelled and two unlabelled cases, and the stores of both presets."""
    from ..phantom import make_phantom

    make_phantom("abdomen", folder / "data", cases=4, labelled=2, validation=1, test=1, size=size, percent=20)
    for preset in ("cpu", "published"):
        config(folder, preset, cache_dir=str(folder / "store")).get_parsed_content("train::dataloader")


def config(folder: Path, preset: str, **settings: Any) -> ConfigParser:
    """The bundle's training on the phantom."""
    from monai.bundle import ConfigParser

    data = folder / "data"
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    places = {"dataset_dir": str(data), "split_file": str(data / "split.json"), "run_dir": str(folder / "run")}
    parser.update({"bundle_root": str(BUNDLE), "preset": preset, **places, **settings})
    return parser


def batches(parser: ConfigParser) -> Iterator[Batch]:
    """The training's batches, without an end."""
    loader = parser.get_parsed_content("train::dataloader")
    loader.sampler.steps = 1_000_000
    loader.set_epoch(0)
    return iter(loader)


def a_batch(keep: Callable[[Path], dict[str, Any]]) -> Callable[[Path], Callable[[], list[float]]]:
    """Draws a batch of four patches at the published spacing; what is kept of the volumes, `keep` says."""

    def make(folder: Path) -> Callable[[], list[float]]:
        drawn = batches(config(folder, "published", **keep(folder)))
        return lambda: [float(patches[0, 0, 0, 0].sum()) for patches in next(drawn).values()]

    return make


def some_steps(ready: bool, workers: int) -> Callable[[Path], Callable[[], list[float]]]:
    """Trains for STEPS steps, on the same few batches in memory or on what comes out of the store."""

    def make(folder: Path) -> Callable[[], list[float]]:
        from monai.utils import set_determinism

        set_determinism(seed=0)
        parser = config(folder, "cpu", cache_dir=str(folder / "store"), num_workers=workers)
        trainer = parser.get_parsed_content("train::trainer")
        drawn = batches(parser)
        if ready:
            drawn = cycle(list(islice(drawn, STEPS)))
        trainer.state.iteration = 1

        def run() -> list[float]:
            return [float(trainer._iteration(trainer, batch)["loss"]) for batch in islice(drawn, STEPS)]

        return run

    return make


JOBS = (
    Job(
        "a batch of 96 x 96 x 96",
        variants=(
            Variant("NIfTI each time", a_batch(lambda folder: {"cache_rate": 0.0})),
            Variant("CacheDataset", a_batch(lambda folder: {})),
            Variant("the store", a_batch(lambda folder: {"cache_dir": str(folder / "store")})),
        ),
        prepare=prepare,
        goal_speedup=100,
    ),
    Job(
        f"{STEPS} steps and their data",
        variants=(
            Variant("batches ready in memory", some_steps(ready=True, workers=0)),
            Variant("the store, no workers", some_steps(ready=False, workers=0)),
            Variant("the store, 2 workers", some_steps(ready=False, workers=2)),
        ),
        prepare=prepare,
        tolerance=1e-6,
        goal_speedup=0.95,
    ),
)
