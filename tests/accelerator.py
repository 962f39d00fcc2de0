"""Which methods wait for the host, and where, told on a CPU: `python -m tests.accelerator` prints it as JSON.

Their steps run on fake tensors, which have shapes and no values, of a device that is not the CPU. Whatever needs a
value (an `item`, a branch, `nonzero`) or brings numbers of the host to the device fails there, as it would fail while a
CUDA graph is captured. In a process of its own, since torch cannot forget a device that it was told of.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.methods import METHODS, spatial_dims
from scripts.methods.base import Method
from scripts.training.step import Step
from tests.method_cases import batch, small_method

NAME = "fakegpu"
SIZES = {2: (32, 32), 3: (16, 16, 16)}
IN_3D = ("cps", "dca")  # the one whose loss is another for volumes, and the one that matters most


class NoCopies(TorchDispatchMode):
    """Within this mode nothing may be copied between the host and the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            devices = {value.device.type for value in (*args, found) if isinstance(value, torch.Tensor)}
            if len(devices) > 1:
                raise RuntimeError(f"{func}: a copy between {' and '.join(sorted(devices))}")
        return found


def moved(value: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    """A tensor of the shape and type of a real one, on the device."""
    return FakeTensor(mode, value.detach().to("meta"), torch.device(NAME, 0))


def move(module: nn.Module, mode: FakeTensorMode) -> None:
    """Put parameters and buffers on the device; modules cannot do this themselves with fake tensors."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(moved(parameter, mode), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = moved(buffer, mode)


def obstacle(method: Method, share: float) -> str | None:
    """What keeps a step of a method at this share of the training from running; None if nothing does."""
    dims = spatial_dims(method.predictor)
    real = dict(zip(("image", "label", "image_u"), batch(SIZES[dims]), strict=True))
    mode, device = FakeTensorMode(), torch.device(NAME, 0)
    move(method, mode)
    data = {key: moved(values, mode) for key, values in real.items()}
    with mode, NoCopies():
        data["label"] = data["label"].unsqueeze(1)
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, foreach=True)
        step = Step(method, optimizer, device, amp=False)
        try:
            step.begin(1, share)
            step(data)
        except Exception as error:  # each kind of fake tensor has its own
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None


def obstacles(name: str) -> dict[str, str | None]:
    """What keeps steps of a method from running, at the end of a training and in its earlier forms, by case."""
    cases = [(2, 0.999), *((2, share / 2) for share in small_method(name).changes)]
    cases += [(3, 0.999)] if name in IN_3D else []
    return {
        f"{dims}D, {share:.0%} of the training done": obstacle(small_method(name, spatial_dims=dims), share)
        for dims, share in cases
    }


def main() -> None:
    """Print {method: {case: obstacle or null}} of the methods that are named, or of all."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16]  # for a context that changes nothing here
    json.dump({name: obstacles(name) for name in sys.argv[1:] or METHODS}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
