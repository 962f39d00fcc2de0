"""Trainings that wait for their batches: from a batch that is there, from volumes on the GPU, and from the host."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch.profiler import ProfilerActivity, profile

from scripts.data.on_device import DeviceLoader
from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.training.engine import SemiSupervisedTrainer
from tools.common.paths import BUNDLES

from ..measuring import spread
from ..steps import Task
from .sheet import Numbers, Sheet
from .timing import Clock
from .ways import AS_IT_IS, TASKS, backends, build, optimizer

CASES = {2: BUNDLES / "dca_acdc", 3: BUNDLES / "dca_synapse"}  # whose random transforms are used
STEPS = {2: 100, 3: 20}  # in a round
PROFILED = 10  # each has two thousand kernels
VOLUMES, SLICES = 4, 10  # of each stream; of a volume that falls into slices
WORKERS = 2
WAITING, IDLE = 0.02, 0.1  # shares of the time


def rows(sheet: Sheet, clock: Clock, tasks: Mapping[str, Task] = TASKS, steps: Mapping[int, int] = STEPS) -> None:
    """Train on each task from each source, and note how long the training waits, and how long the GPU does."""
    for place, task in tasks.items():
        in_a_round = steps[task.dims]
        arguments = (*streams(task), (2, 2), in_a_round * (clock.rounds + 1), 0)
        on_device = DeviceLoader(*arguments, device=clock.device)
        on_host = TwoStreamLoader(*arguments, WORKERS, pin_memory=clock.device.type == "cuda")
        train = partial(trained, clock, task, in_a_round)
        base = sheet.row(f"{place}: one batch on the device", partial(train, OneBatch(on_device, clock.device)))
        for name, loader in (("DeviceLoader", on_device), (f"TwoStreamLoader, {WORKERS} workers", on_host)):
            row = sheet.row(f"{place}: {name}", partial(train, loader))
            if base and row:
                row["waits"] = waiting(row, base)
                sheet.save()
                if loader is on_device:
                    sheet.goal(f"{place}: share of the time that a training waits for data", row["waits"], WAITING)
            if row and loader is on_device:
                found = sheet.row(
                    f"{place}: the device at work", partial(busy, clock, task, min(PROFILED, in_a_round), loader)
                )
                if found:
                    found["share"] = found["busy_ms"] / row["ms"]["median"]
                    sheet.goal(f"{place}: share of the time that the device is idle", 1 - found["share"], IDLE)


def streams(task: Task) -> tuple[SampleDataset, SampleDataset]:
    """Labelled and unlabelled samples of made-up volumes, with the random transforms of a bundle."""
    parser = ConfigParser()
    root = CASES[task.dims]
    parser.read_config(root / "configs" / "train.json")
    parser.update({"bundle_root": str(root), "preset": "published"})
    parser.update({"image_size" if task.dims == 2 else "patch_size": [task.size] * task.dims})
    shape = [1, task.size, task.size, SLICES] if task.dims == 2 else [1, *[2 * task.size] * 3]
    made = []
    for stream in ("samples", "samples_u"):
        volumes: Any = [{"image": torch.rand(shape)} for _ in range(VOLUMES)]
        if stream == "samples":
            for volume in volumes:
                volume["label"] = torch.randint(0, task.organs + 1, shape, dtype=torch.uint8)
        augmentation = parser.get_parsed_content(parser[f"train::{stream}::transform"].removeprefix("@"))
        made.append(SampleDataset(volumes, augmentation, 2 if task.dims == 2 else None))
    return made[0], made[1]


class OneBatch:
    """The first batch of a loader, on the device, again and again."""

    def __init__(self, loader: TwoStreamLoader, device: torch.device) -> None:
        loader.set_epoch(0)
        self.batch = {name: values.to(device) for name, values in next(iter(loader)).items()}
        self.steps, self.step_seed = len(loader), loader.step_seed

    def set_epoch(self, epoch: int) -> None:
        """See `TwoStreamLoader.set_epoch`; nothing changes."""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return itertools.repeat(self.batch, self.steps)


def trained(clock: Clock, task: Task, in_a_round: int, loader: Any) -> Numbers:
    """Milliseconds of a step of DCA in a training by the bundles' trainer; the first round is its warm-up."""
    times: list[float] = []

    def mark() -> bool:
        clock.wait()
        times.append(time.perf_counter())
        return True

    with clock.memory() as peak:
        _train(task, loader, in_a_round, mark)
    rounds = [1000 * (end - start) / in_a_round for start, end in itertools.pairwise(times)]
    return {"ms": spread(rounds), **peak}


def busy(clock: Clock, task: Task, steps: int, loader: Any) -> Numbers:
    """Milliseconds of a step in which the device does something, by torch's profiler, after as many steps as it sees.

    The profiler itself takes time of the host, so that shares are to be taken of a step without it.
    """
    kind = ProfilerActivity.CUDA if clock.device.type == "cuda" else ProfilerActivity.CPU
    profiler = profile(activities=[kind])
    calls = iter((profiler.start, profiler.stop))

    def mark() -> bool:
        clock.wait()
        call = next(calls)
        call()
        return call == profiler.start

    _train(task, loader, steps, mark)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type.name == kind.name and not getattr(event, "is_user_annotation", False)
    ]
    return {"busy_ms": covered(spans) / 1000 / steps}


def _train(task: Task, loader: Any, in_a_round: int, mark: Callable[[], bool]) -> None:
    """A training over the batches of a loader, which marks the end of each round, and whether it is to go on."""
    with backends(AS_IT_IS):
        torch.manual_seed(0)
        method = build(task)
        trainer = SemiSupervisedTrainer(torch.device(task.device), 1, loader, method, optimizer(method))

        def end_a_round() -> None:
            if not mark():
                trainer.terminate()

        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=in_a_round), end_a_round)
        trainer.run()


def waiting(mine: Numbers, base: Numbers) -> float:
    """The share of a step's time that it takes more than the base's, by minimum or median, whichever is larger."""
    found: list[float] = [1 - base["ms"][kind] / mine["ms"][kind] for kind in ("minimum", "median")]
    return max(found)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of what these spans of time cover together; what several of them cover counts once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
