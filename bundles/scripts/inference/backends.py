"""What runs a network for inference: torch, or OpenVINO."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..networks import autocast_dtype, mean_over_mirror_images
from ..settings import as_flag, expect_one_of


def for_inference(
    network: nn.Module,
    device: torch.device | str,
    amp: bool = True,
    backend: str = "torch",
    mirror_axes: Sequence[int] = (),
) -> nn.Module:
    """The network as it infers: [B, C_in, *spatial] to float32 [B, C, *spatial] in eval mode, without gradients.

    Args:
        network: with its weights.
        device: where it is.
        amp: use the reduced precision of `autocast_dtype`.
        backend: "torch", or "openvino" (see `OpenVINO`).
        mirror_axes: spatial axes, 0 for the first, along which the images are mirrored, too (see `Mirrored`).

    Raises:
        UserError: another backend, or one that this machine does not have.
    """
    expect_one_of("backend", backend, BACKENDS)
    running = BACKENDS[backend](network, torch.device(device), amp)
    return Mirrored(running, mirror_axes) if mirror_axes else running


class Mirrored(nn.Module):
    """A network that takes the mean of its logits over an image and its mirror images (`mean_over_mirror_images`).

    Args:
        network: [B, C_in, *spatial] to [B, C, *spatial].
        axes: spatial axes, 0 for the first.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network, self.axes = network, axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mean for [B, C_in, *spatial]."""
        return mean_over_mirror_images(self.network, x, self.axes)


class Autocast(nn.Module):
    """Runs a network in the reduced precision of `autocast_dtype` and returns float32; `amp` False leaves it alone."""

    def __init__(self, network: nn.Module, device: torch.device, amp: bool = True) -> None:
        super().__init__()
        self.network = network
        self.device_type = torch.device(device).type
        self.dtype = autocast_dtype(device) if as_flag("amp", amp) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's output for [B, C, *spatial], in float32."""
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            return self.network(x).float()


class OpenVINO(nn.Module):
    """Runs a network on the CPU by OpenVINO, in the same precision and on as many threads as torch would.

    The network is converted in memory when the first image of a size comes, and knows only that size, which is a
    quarter faster than any size. Weights that change later are not seen. Batches go through image by image, as is
    fastest on a CPU.

    Raises:
        UserError: another device than a CPU, or OpenVINO is not installed.
    """

    def __init__(self, network: nn.Module, device: torch.device, amp: bool = True) -> None:
        super().__init__()
        if device.type != "cpu":
            raise UserError(
                f"backend: expected torch on {device}, found openvino, which runs on cpu; set `device` to cpu"
            )
        # With this package beside it, OpenVINO would report every conversion to its makers.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            import openvino
        except ImportError:
            fix = "pip install -r requirements-openvino.txt"
            raise UserError(f"backend: expected the package openvino, found none; call `{fix}`, or set torch") from None
        self.network, self.convert, self.core = network, openvino.convert_model, openvino.Core()
        self.options = {
            "INFERENCE_PRECISION_HINT": "bf16" if as_flag("amp", amp) and autocast_dtype(device) else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # several processes would share a core
        }
        self.compiled: dict[torch.Size, Any] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's output for [B, C, *spatial], in float32."""
        outputs = [self._run(image.contiguous()) for image in x.split(1)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape not in self.compiled:
            with warnings.catch_warnings():  # of branches that depend on the size, which is fixed here
                warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
                traced = torch.jit.trace(self.network, image, check_trace=False)
            model = self.convert(traced, input=list(image.shape))
            self.compiled[image.shape] = self.core.compile_model(model, "CPU", self.options)
        return torch.from_numpy(self.compiled[image.shape](image.numpy())[0])


BACKENDS = {"torch": Autocast, "openvino": OpenVINO}
