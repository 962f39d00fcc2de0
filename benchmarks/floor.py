"""The machine's limit: a training step, and a network on windows, beside nothing but their products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import steps
from .jobs import Job, Variant

if TYPE_CHECKING:
    import torch

SIZE = 64  # voxels along each side of a patch
WINDOWS = 4


def step() -> Callable[[], Any]:
    """See `steps.as_it_is`."""
    return steps.as_it_is(steps.Task(SIZE))


def windows() -> Callable[[], Any]:
    """DCANet on four windows at once, as inference does it."""
    import torch

    from scripts.inference.backends import Autocast

    network = steps.channels_last(steps.predictor(steps.Task(SIZE)), 3).eval()
    run = Autocast(network, torch.device("cpu"))
    images = torch.rand([WINDOWS, 1, SIZE, SIZE, SIZE])

    def predict() -> torch.Tensor:
        with torch.no_grad():
            return run(images)

    return predict


def whole(make: Callable[[], Callable[[], Any]]) -> Callable[[Path], Callable[[], int]]:
    """All of it; the result is its multiply-adds, as `Products` counts them."""

    def prepare(folder: Path) -> Callable[[], int]:
        work = make()
        with products() as recorded:
            work()

        def run() -> int:
            work()
            return recorded.multiply_adds

        return run

    return prepare


def alone(make: Callable[[], Callable[[], Any]], dtype: str | None = None) -> Callable[[Path], Callable[[], int]]:
    """Its products of matrices alone, one after the other, on numbers that are there before.

    In the precision of all of it, which is the one that pays on this machine, or in a given one.
    """

    def prepare(folder: Path) -> Callable[[], int]:
        import torch

        from scripts.networks import autocast_dtype

        precision = getattr(torch, dtype) if dtype else autocast_dtype("cpu") or torch.float32
        work = make()
        with products() as recorded:
            work()
        del work
        calls = recorded.prepared(precision)

        def run() -> int:
            for call in calls:
                call()
            return recorded.multiply_adds

        return run

    return prepare


def products() -> Any:
    """A context that records every convolution and every product of matrices in it, forward and backward.

    Its `multiply_adds` counts them, by torch's own formulas; `prepared` gives them as functions to call again.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map_only
    from torch.utils.flop_counter import flop_registry

    aten = torch.ops.aten
    kinds = (aten.convolution, aten.convolution_backward, aten.mm, aten.addmm, aten.bmm)

    class Products(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.multiply_adds = 0
            self.calls: list[tuple[Any, Any]] = []

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            if function.overloadpacket in kinds:
                self.multiply_adds += flop_registry[function.overloadpacket](*args, out_val=found) // 2
                self.calls.append((function, tree_map_only(torch.Tensor, _Like, args)))
            return found

        def prepared(self, dtype: torch.dtype) -> list[Callable[[], Any]]:
            made: dict[_Like, torch.Tensor] = {}

            def filled(like: _Like) -> torch.Tensor:
                if like not in made:
                    made[like] = torch.empty_strided(like.shape, like.stride, dtype=dtype).normal_()
                return made[like]

            return [partial(function, *tree_map_only(_Like, filled, args)) for function, args in self.calls]

    return Products()


class _Like:
    """What a product's time depends on: the shape of a tensor and its layout in memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.stride = tuple(tensor.shape), tensor.stride()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Like) and (self.shape, self.stride) == (other.shape, other.stride)

    def __hash__(self) -> int:
        return hash((self.shape, self.stride))


def _job(name: str, make: Callable[[], Callable[[], Any]], share: float | None) -> Job:
    return Job(
        name,
        variants=(
            Variant("its products alone", alone(make)),
            Variant("its products alone, float32", alone(make, "float32")),
            Variant("all of it", whole(make)),
        ),
        goal_speedup=share,
    )


JOBS = (
    _job(f"step, {SIZE}^3, and its floor", step, 0.6),
    _job(f"{WINDOWS} windows, {SIZE}^3, and their floor", windows, None),
)
