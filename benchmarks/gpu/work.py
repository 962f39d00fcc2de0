"""The work of torch's operations: their arithmetic by torch's own formulas, and the bytes that they must move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# What only names memory, though it does not say so of itself: operations that are views do.
IDLE = ("empty", "new_empty", "_unsafe_view", "_local_scalar_dense", "is_same_size")
# What writes one of its arguments without reading it.
OVERWRITING = ("copy_", "_foreach_copy_", "fill_", "zero_", "_foreach_zero_", "normal_", "uniform_", "bernoulli_")


@dataclass(frozen=True)
class Operation:
    """flops: additions and multiplications of products of matrices and convolutions; nbytes: read and written."""

    name: str
    flops: int
    nbytes: int


class Work(TorchDispatchMode):
    """A context that counts the operations on a device in it, forward and backward.

    Bytes are those of the tensors that an operation reads and writes, each once, and no more than lie in memory (an
    expanded tensor is small). What an operation keeps for itself on the way is not counted.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        packet = function.overloadpacket
        name = packet.__name__
        if function.is_view or name.startswith(IDLE):
            return found
        arguments = [*zip(function._schema.arguments, args, strict=False)]
        arguments += [(one, kwargs[one.name]) for one in function._schema.arguments if one.name in kwargs]
        written = self._here(
            value for one, value in arguments if one.alias_info is not None and one.alias_info.is_write
        )
        given = self._here(value for _, value in arguments)
        read = {key: x for key, x in given.items() if not (key in written and name in OVERWRITING)}
        written |= self._here([found])
        if read or written:
            flops = flop_registry[packet](*args, **kwargs, out_val=found) if packet in flop_registry else 0
            self.operations.append(Operation(name, int(flops), _nbytes(read) + _nbytes(written)))
        return found

    def floor(self, flops: float, bandwidth: float) -> float:
        """Seconds that the operations take, one after the other, at these ceilings (1/s, bytes/s)."""
        return sum(max(one.flops / flops, one.nbytes / bandwidth) for one in self.operations)

    def _here(self, values: Iterable[Any]) -> dict[int, torch.Tensor]:
        """The tensors in them that lie on the device, each once."""
        found = [x for x in tree_leaves(list(values)) if isinstance(x, torch.Tensor)]
        return {id(x): x for x in found if x.device.type == self.device.type}


def _nbytes(tensors: dict[int, torch.Tensor]) -> int:
    return sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors.values())
