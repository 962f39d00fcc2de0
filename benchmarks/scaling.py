"""Two processes against one, a thread each: training steps of the 3D bundle, and `segment` over a folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.common.paths import ROOT

from .jobs import BUNDLE, Job, Variant

if TYPE_CHECKING:
    from scripts.training.engine import SemiSupervisedTrainer

BATCHES = 4  # in all, over the processes
VOLUMES, SIZE = 20, (256, 256, 150)


def prepare_training(folder: Path) -> None:
    """Make a phantom of four training cases."""
    from tools.phantom.command import make_phantom

    make_phantom("abdomen", folder / "data", cases=4, labelled=2, validation=1, test=1)


def make_trainer(data: Path, folder: Path, batches: int, **settings: Any) -> SemiSupervisedTrainer:
    """The trainer that configs/train.json and multi_gpu_train.json make, without validation and files.

    Args:
        data: the dataset_dir.
        folder: for what the bundle writes.
        batches: of all processes together, the length of the training.
        settings: other settings of the config.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / name for name in ("train.json", "multi_gpu_train.json")])
    places = {"bundle_root": str(BUNDLE), "dataset_dir": str(data), "split_file": str(data / "split.json")}
    parser.update({**places, "percent": 10, "run_dir": str(folder), "ckpt_dir": str(folder)})
    parser.update({"steps": batches, "val_steps": batches, "train::handlers": [], **settings})
    parser.get_parsed_content("initialize")
    trainer: SemiSupervisedTrainer = parser.get_parsed_content("train::trainer")
    return trainer


def train_with(processes: int) -> Callable[[Path], Callable[[], dict[str, Any]]]:
    """Trains on the same batches with so many processes; the loss of each, and the norm of their mean gradient.

    The weights stay as they are (the rate is 0) and so does the weight of the unlabelled term, so that every batch has
    the same loss and gradient wherever and whenever it is computed.
    """

    def make(folder: Path) -> Callable[[], dict[str, Any]]:
        os.environ["OMP_NUM_THREADS"] = "1"
        context = get_context("spawn")
        pipes = []
        for rank in range(processes):
            pipe, theirs = context.Pipe()
            context.Process(target=_train, args=(theirs, folder, rank, processes), daemon=True).start()
            theirs.close()
            pipes.append(pipe)
        for pipe in pipes:
            pipe.recv()

        def run() -> dict[str, Any]:
            for pipe in pipes:
                pipe.send(None)
            answers: list[tuple[list[float], float]] = [pipe.recv() for pipe in pipes]
            losses = [loss for step in zip(*(losses for losses, _ in answers), strict=True) for loss in step]
            return {"losses": losses, "gradient": answers[0][1]}

        return run

    return make


def _train(pipe: Connection, folder: Path, rank: int, processes: int) -> None:
    """One of the processes: whenever it is asked, train; answer with its losses and the norm of the mean gradient."""
    import torch
    from ignite.engine import Events

    store = f"file://{folder / f'{processes}_processes'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
    fixed = {"lr": 0.0, "method_options": {"ramp": "constant"}}
    trainer = make_trainer(folder / "data", folder / str(processes), BATCHES, **fixed)
    parameters = [parameter for parameter in trainer.method.parameters() if parameter.requires_grad]
    losses: list[float] = []
    total = [torch.zeros_like(parameter) for parameter in parameters]

    def note() -> None:
        losses.append(float(trainer.state.output["loss"]))
        for mine, parameter in zip(total, parameters, strict=True):
            assert parameter.grad is not None
            mine += parameter.grad

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    pipe.send(None)
    with contextlib.suppress(EOFError):  # the bench is over
        while True:
            pipe.recv()
            losses.clear()
            for mine in total:
                mine.zero_()
            trainer.run()
            pipe.send((list(losses), float(torch.cat([mine.flatten() for mine in total]).norm()) / len(losses)))


def prepare_volumes(folder: Path, volumes: int = VOLUMES, size: tuple[int, int, int] = SIZE) -> None:
    """Make images of the abdominal phantom, and a model of untrained weights."""
    import torch

    from scripts.methods import create_predictor
    from tools.phantom.command import make_phantom

    make_phantom("abdomen", folder / "data", cases=volumes - 2, labelled=1, validation=1, test=1, size=size)
    torch.manual_seed(0)
    network: dict[str, Any] = {
        "style": "vnet",
        "spatial_dims": 3,
        "in_channels": 1,
        "num_classes": 13,
        "width": 8,
    }
    (folder / "models").mkdir()
    torch.save(create_predictor("dca", **network).state_dict(), folder / "models" / "model.pt")


def segment_with(workers: int) -> Callable[[Path], Callable[[], dict[str, str]]]:
    """Runs `segment` with so many workers, from the start of Python to the end; the hash of every label map."""

    def make(folder: Path) -> Callable[[], dict[str, str]]:
        from scripts.files import sha256

        os.environ["OMP_NUM_THREADS"] = "1"
        output = folder / f"{workers}_workers"
        words = ["segment", str(folder / "data" / "images"), str(output), "--overwrite", "--workers", str(workers)]
        words += ["--bundle", BUNDLE.name, "--model", str(folder / "models")]

        def run() -> dict[str, str]:
            subprocess.run([sys.executable, "-m", "tools", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            return {path.parent.name: sha256(path) for path in sorted(output.glob("*/labels.nii.gz"))}

        return run

    return make


JOBS = (
    Job(
        f"{BATCHES} training batches",
        variants=(Variant("1 process", train_with(1)), Variant("2 processes", train_with(2))),
        prepare=prepare_training,
        tolerance=1e-4,
        goal_speedup=1.7,
    ),
    Job(
        f"segment {VOLUMES} volumes",
        variants=(Variant("1 worker", segment_with(1)), Variant("2 workers", segment_with(2))),
        prepare=prepare_volumes,
        goal_speedup=1.7,
    ),
)
