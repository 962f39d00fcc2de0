"""Evaluation: MONAI's evaluator, whose network runs on a backend of inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer

from ..checkpoints import load_predictor
from .backends import for_inference


class SegmentationEvaluator(SupervisedEvaluator):
    """MONAI's evaluator whose network runs as `for_inference` says; all other arguments are MONAI's.

    `network` is the network itself, so that its state has the same keys as that of the trainer's and model.pt:
    applications exchange them (federated learning). Each run takes the weights that it then has.
    """

    def __init__(
        self,
        device: torch.device,
        network: torch.nn.Module,
        amp: bool = True,
        backend: str = "torch",
        mirror_axes: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(device=device, network=network, amp=False, **kwargs)
        make = partial(for_inference, network, device, amp, backend, mirror_axes)
        self.inferer = _OnBackend(self.inferer, make)
        self.add_event_handler(Events.STARTED, self.inferer.renew)


class _OnBackend(Inferer):
    """An inferer that gives its windows to what `make` makes of the network."""

    def __init__(self, inferer: Inferer, make: Callable[[], torch.nn.Module]) -> None:
        self.inferer, self.make = inferer, make
        self.renew()

    def renew(self) -> None:
        """Forget what a backend made of earlier weights."""
        self.running = self.make()

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the inferer makes of the inputs."""
        return self.inferer(inputs, self.running, *args, **kwargs)


class CheckpointLoader:
    """Loads model.pt into the predictor when an evaluation starts.

    A handler of this name, because federated learning (`monai.fl.client.MonaiAlgo`) leaves out those that have it: its
    weights come from the server, and there may be no file.

    Args:
        network: the predictor.
        path: the file.
        device: where its tensors are put.

    Raises:
        UserError: as `load_predictor`.
    """

    def __init__(self, network: torch.nn.Module, path: str | Path, device: torch.device | str = "cpu") -> None:
        self._load = partial(load_predictor, network, path, device)

    def attach(self, engine: Engine) -> None:
        """Load at the start of each run of the engine."""
        engine.add_event_handler(Events.STARTED, self._load)
