"""Training steps to be measured: of DCA, of DCA without what makes it fast, and of CPS as the field writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scripts.methods.dca import DCA

WIDTH, ORGANS = 16, 13
LR, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
PROGRESS = 0.5  # of the training, for the ramp of the unlabelled term
Step = Callable[[], dict[str, float]]


def batch(size: int, organs: int = ORGANS) -> dict[str, torch.Tensor]:
    """Two labelled and two unlabelled patches of made-up numbers, the labels in cubes of an eighth of the side."""
    import torch

    draw = torch.Generator().manual_seed(0)
    cubes = torch.randint(0, organs + 1, [2, 8, 8, 8], generator=draw)
    for axis in (1, 2, 3):
        cubes = cubes.repeat_interleave(size // 8, axis)
    image, image_u = torch.rand([2, 2, 1, size, size, size], generator=draw)
    return {"image": image, "label": cubes, "image_u": image_u}


def dca(options: dict[str, Any], organs: int = ORGANS, width: int | None = None) -> DCA:
    """DCA on the V-Net with its options, as the bundles build it; the organs in three groups, by turns."""
    import torch

    from scripts.methods import create_predictor
    from scripts.methods.dca import DCA

    torch.manual_seed(0)
    network: Any = create_predictor(
        method="dca",
        preset="cpu",
        style="vnet",
        spatial_dims=3,
        in_channels=1,
        num_classes=organs,
        width=width or WIDTH,
        residual=True,
    )
    network.set_groups([list(range(first, organs + 1, 3)) for first in (1, 2, 3)])
    return DCA(network, **options)


def as_it_is(
    size: int, options: dict[str, Any], organs: int = ORGANS, width: int | None = None, checkpointing: bool = False
) -> Step:
    """A step as `SemiSupervisedTrainer` takes it: autocast, channels last, memory that is kept."""
    from scripts.networks import autocast_dtype, recompute_finest_levels
    from scripts.training.memory import keep_freed_memory

    keep_freed_memory()
    method = channels_last(dca(options, organs, width))
    if checkpointing:
        recompute_finest_levels(method)
    return _step(method, batch(size, organs), autocast_dtype("cpu"))


def networks(method: DCA) -> list[Any]:
    """The network of DCA and, if there is one, that of its teacher."""
    return [method.predictor] if method.teacher is None else [method.predictor, method.teacher.module]


def channels_last(module: Any) -> Any:
    """The module with the layout in memory that the bundles choose."""
    import torch

    return module.to(memory_format=torch.channels_last_3d)


def plain(size: int, options: dict[str, Any]) -> Step:
    """The same losses by torch's defaults: float32, an encoder pass per decoder, its convolutions, glibc's malloc."""
    method = dca(options)
    for network in networks(method):
        _by_defaults(network)
        _with_an_encoder_pass_per_decoder(network)
        for dfam in network.aggregation.dfams:
            dfam.attention = _projecting_attention(dfam)
    return _step(method, batch(size), None)


def plain_cps(size: int) -> Step:
    """CPS as the field writes it: two V-Nets in float32, each with its optimizer, cross-entropy and one-hot Dice."""
    import torch
    from torch.nn import functional

    from scripts.networks import SegmentationNet

    torch.manual_seed(0)
    pair = [SegmentationNet("vnet", 3, 1, ORGANS, WIDTH) for _ in range(2)]
    for network in pair:
        _by_defaults(network)
    optimizers = [
        torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY) for network in pair
    ]
    data = batch(size)
    images = torch.cat([data["image"], data["image_u"]])

    def dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        probabilities = logits.softmax(1)
        target = functional.one_hot(label, ORGANS + 1).movedim(-1, 1).float()
        loss = torch.zeros(())
        for c in range(ORGANS + 1):
            p, t = probabilities[:, c], target[:, c]
            loss = loss + 1 - (2 * (p * t).sum() + 1e-5) / ((p * p).sum() + (t * t).sum() + 1e-5)
        return loss / (ORGANS + 1)

    def step() -> dict[str, float]:
        outputs = [network(images) for network in pair]
        labels = [logits.detach().argmax(1) for logits in outputs]
        loss = torch.zeros(())
        for logits, other in zip(outputs, labels[::-1], strict=True):
            supervised = functional.cross_entropy(logits[:2], data["label"]) + dice(logits[:2], data["label"])
            loss = loss + supervised + 0.1 * functional.cross_entropy(logits, other)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return {"loss": float(loss.detach())}

    return step


def _step(method: DCA, data: dict[str, torch.Tensor], dtype: torch.dtype | None) -> Step:
    import torch

    optimizer = torch.optim.SGD(method.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    method.train()

    def step() -> dict[str, float]:
        torch.manual_seed(0)  # of the boxes that are mixed
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            losses = method(data["image"], data["label"], data["image_u"], PROGRESS)
        losses["loss"].backward()
        optimizer.step()
        method.after_step(PROGRESS)
        return {name: float(value.detach()) for name, value in losses.items()}

    return step


def _by_defaults(network: nn.Module) -> None:
    """Put torch's convolutions, with the same parameters, in the place of ours, and let no ReLU overwrite its input."""
    from torch import nn

    from scripts.networks import convolutions

    kinds = {
        convolutions.Pointwise3d: nn.Conv3d,
        convolutions.Dilated3d: nn.Conv3d,
        convolutions.Doubling3d: nn.ConvTranspose3d,
    }
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if type(module) in kinds:
            stock = kinds[type(module)](
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
            )
            stock.weight, stock.bias = module.weight, module.bias
            network.set_submodule(name, stock)


def _with_an_encoder_pass_per_decoder(network: Any) -> None:
    """Every decoder gets the encoder's maps from a pass of its own, as four networks side by side would."""
    encoder = network.encoder
    seen: list[torch.Tensor] = []

    def remember(x: torch.Tensor) -> list[torch.Tensor]:
        seen[:] = [x]
        return encode(x)

    def decode_experts(features: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        maps = [expert.maps(encode(seen[0])) for expert in network.experts]
        return [list(level) for level in zip(*maps, strict=True)]

    encode = encoder.forward
    encoder.forward = remember
    network.decode_experts = decode_experts


def _projecting_attention(dfam: Any) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """The attention of a DFAM as it is described: projections, then convolutions of them all."""
    import torch

    def attention(maps: list[torch.Tensor]) -> torch.Tensor:
        projected = [project(m) for project, m in zip(dfam.project, maps, strict=True)]
        return dfam.attend(torch.cat(projected, dim=1))

    return attention
