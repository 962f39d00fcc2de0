"""Random numbers of the host on every device, so that the same step can be taken on both and compared."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
MADE = (aten.rand.default, aten.randn.default, aten.randint.default, aten.randint.low)
FILLED = (aten.uniform_.default, aten.exponential_.default, aten.normal_.default, aten.bernoulli_.float)


class HostsNumbers(TorchDispatchMode):
    """Within this mode all random numbers come from the CPU's generator, in the order in which they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MADE:
            device = kwargs.get("device", "cpu")
            return func(*args, **(kwargs | {"device": "cpu"})).to(device)
        if func in FILLED:
            filled = func(torch.empty(args[0].shape, dtype=args[0].dtype), *args[1:], **kwargs)
            return args[0].copy_(filled)
        if func is aten._sample_dirichlet.default:
            return func(args[0].cpu()).to(args[0].device)
        if func is aten.native_dropout.default:  # a GPU's; a CPU fills a mask
            x, p, _ = args
            kept = torch.empty(x.shape, dtype=x.dtype).bernoulli_(1.0 - p).to(x.device)
            return x * kept / (1.0 - p), kept.bool()
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NotImplementedError(f"{func}: its random numbers would be the device's own")
        return func(*args, **kwargs)
