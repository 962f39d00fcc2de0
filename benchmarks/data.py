"""Training data: a batch out of NIfTI files, memory and the store, and steps that wait for their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.common.paths import ROOT

from .jobs import BUNDLE, Job, Variant

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser

SIZE = (256, 256, 150)  # voxels of 1.5 x 1.5 x 2.7 mm
STEPS = 4
SLICES = ROOT / "bundles" / "dca_acdc"  # the bundle of the smallest step
SMALL_STEPS = 40

Batch = dict[str, "torch.Tensor"]


def prepare(folder: Path, size: tuple[int, int, int] = SIZE) -> None:
    """Make a phantom of two labelled and two unlabelled cases, and the stores of both presets."""
    from tools.phantom.command import make_phantom

    make_phantom("abdomen", folder / "data", cases=4, labelled=2, validation=1, test=1, size=size, percent=20)
    for preset in ("cpu", "published"):
        config(folder, preset, cache_dir=str(folder / "store")).get_parsed_content("train::dataloader")


def prepare_slices(folder: Path) -> None:
    """Make a phantom of four labelled hearts, and their store."""
    from tools.phantom.command import make_phantom

    make_phantom("heart", folder / "data", cases=4, labelled=4, validation=1, test=1)
    config(folder, "cpu", SLICES, cache_dir=str(folder / "store")).get_parsed_content("train::dataloader")


def config(folder: Path, preset: str, bundle: Path = BUNDLE, **settings: Any) -> ConfigParser:
    """The bundle's training on the phantom."""
    from monai.bundle import ConfigParser

    data = folder / "data"
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    places = {"dataset_dir": str(data), "split_file": str(data / "split.json"), "run_dir": str(folder / "run")}
    parser.update({"bundle_root": str(bundle), "preset": preset, **places, **settings})
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


def some_steps(
    steps: int, ready: bool = False, bundle: Path = BUNDLE, stored: bool = True, **settings: Any
) -> Callable[[Path], Callable[[], list[float]]]:
    """Trains for some steps, on the same few batches in memory or on what the loader draws.

    Args:
        steps: how many.
        ready: take batches that were drawn before.
        bundle: whose training.
        stored: volumes come out of the store, not out of memory.
        settings: of the training.
    """

    def make(folder: Path) -> Callable[[], list[float]]:
        from monai.utils import set_determinism

        from scripts.training.memory import keep_freed_memory

        set_determinism(seed=0)
        keep_freed_memory()
        parser = config(folder, "cpu", bundle, **settings, cache_dir=str(folder / "store") if stored else None)
        trainer = parser.get_parsed_content("train::trainer")
        drawn = batches(parser)
        if ready:
            drawn = cycle(list(islice(drawn, steps)))
        trainer.state.iteration = 1

        def run() -> list[float]:
            return [float(trainer._iteration(trainer, batch)["loss"]) for batch in islice(drawn, steps)]

        return run

    return make


def small_steps(workers: int) -> Job:
    """Steps on labelled slices only, the smallest there are, which wait for data the largest share of their time."""
    some: dict[str, Any] = {"steps": SMALL_STEPS, "bundle": SLICES, "method": "supervised", "num_workers": workers}
    data = f"{workers or 'no'} workers"
    return Job(
        f"{SMALL_STEPS} steps on slices, {data}",
        variants=(
            Variant("batches ready in memory", some_steps(**some, ready=True)),
            Variant(f"memory, {data}", some_steps(**some, stored=False)),
            Variant(f"the store, {data}", some_steps(**some)),
        ),
        prepare=prepare_slices,
        tolerance=1e-6,
        goal_speedup=0.95,
    )


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
            Variant("batches ready in memory", some_steps(STEPS, ready=True)),
            Variant("the store, no workers", some_steps(STEPS)),
            Variant("the store, 2 workers", some_steps(STEPS, num_workers=2)),
        ),
        prepare=prepare,
        tolerance=1e-6,
        goal_speedup=0.95,
    ),
    small_steps(workers=0),
    small_steps(workers=2),
)
