"""Training steps to be measured: of DCA, of DCA without what makes it fast, and of CPS as the field writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from scripts.methods.base import Method
    from scripts.methods.dca import DCA

WIDTH, ORGANS = 16, 13
LR, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
PROGRESS = 0.5  # of the training, for the ramp of the unlabelled term
STYLES = {2: "unet", 3: "vnet"}
LAYOUTS = {2: "channels_last", 3: "channels_last_3d"}
Step = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """What a step is taken on: two labelled and two unlabelled slices or patches, on a U-Net or a V-Net.

    Args:
        size: pixels or voxels along each side, a multiple of 8.
        dims: 2 or 3.
        organs: classes without the background.
        width: channels of the network's finest level.
        device: where all of it is.
    """

    size: int
    dims: int = 3
    organs: int = ORGANS
    width: int = WIDTH
    device: str = "cpu"


def batch(task: Task) -> dict[str, torch.Tensor]:
    """Made-up numbers [2, 1, *spatial], and labels [2, *spatial] in squares or cubes of an eighth of the side."""
    import torch

    draw = torch.Generator().manual_seed(0)
    label = torch.randint(0, task.organs + 1, [2, *[8] * task.dims], generator=draw)
    for axis in range(1, task.dims + 1):
        label = label.repeat_interleave(task.size // 8, axis)
    image, image_u = torch.rand([2, 2, 1, *[task.size] * task.dims], generator=draw)
    return {name: x.to(task.device) for name, x in {"image": image, "label": label, "image_u": image_u}.items()}


def predictor(task: Task, name: str = "dca", preset: str = "cpu") -> Any:
    """The network of a method, as the bundles build it under a preset; DCA's organs are in three groups, by turns."""
    import torch

    from scripts.methods import create_predictor

    torch.manual_seed(0)
    network: Any = create_predictor(
        method=name,
        preset=preset,
        style=STYLES[task.dims],
        spatial_dims=task.dims,
        in_channels=1,
        num_classes=task.organs,
        width=task.width,
    )
    if name == "dca":
        network.set_groups([list(range(first, task.organs + 1, 3)) for first in (1, 2, 3)])
    return network.to(task.device)


def dca(task: Task, preset: str = "cpu") -> DCA:
    """DCA with its options under a preset."""
    from scripts.methods import preset_options
    from scripts.methods.dca import DCA

    return DCA(predictor(task, preset=preset), **preset_options(DCA, preset, task.dims))


def as_it_is(task: Task, preset: str = "cpu", checkpointing: bool = False) -> Step:
    """A step as `SemiSupervisedTrainer` takes it on a CPU: autocast, channels last, memory that is kept."""
    from scripts.networks import autocast_dtype, recompute_finest_levels
    from scripts.training.memory import keep_freed_memory

    keep_freed_memory()
    method = channels_last(dca(task, preset), task.dims)
    if checkpointing:
        recompute_finest_levels(method)
    return _step(method, task, autocast_dtype(task.device))


def networks(method: Method) -> list[Any]:
    """The network of a method and, if there is one, that of its teacher."""
    teacher: Any = getattr(method, "teacher", None)
    return [method.predictor] if teacher is None else [method.predictor, teacher.module]


def channels_last(module: Any, dims: int) -> Any:
    """The module with the layout in memory that the bundles choose."""
    import torch

    return module.to(memory_format=getattr(torch, LAYOUTS[dims]))


def plain(task: Task, preset: str = "cpu") -> Step:
    """The same losses by torch's defaults: float32, an encoder pass per decoder, its convolutions, glibc's malloc."""
    method = dca(task, preset)
    for network in networks(method):
        _by_defaults(network)
        _with_an_encoder_pass_per_decoder(network)
        for dfam in dfams(network):
            dfam.attention = _projecting_attention(dfam)
    return _step(method, task, None)


def plain_cps(task: Task, dtype: torch.dtype | None = None) -> Step:
    """CPS as the field writes it: two networks, each with its optimizer, cross-entropy and one-hot Dice.

    Args:
        task: what it is taken on.
        dtype: of the autocast; None for float32.
    """
    import torch
    from torch.nn import functional

    from scripts.networks import SegmentationNet

    torch.manual_seed(0)
    style, organs = STYLES[task.dims], task.organs
    pair = [SegmentationNet(style, task.dims, 1, organs, task.width).to(task.device) for _ in range(2)]
    for network in pair:
        _by_defaults(network)
    optimizers = [
        torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY) for network in pair
    ]
    data = batch(task)
    images = torch.cat([data["image"], data["image_u"]])

    def dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        probabilities = logits.softmax(1)
        target = functional.one_hot(label, organs + 1).movedim(-1, 1).float()
        loss = torch.zeros((), device=task.device)
        for c in range(organs + 1):
            p, t = probabilities[:, c], target[:, c]
            loss = loss + 1 - (2 * (p * t).sum() + 1e-5) / ((p * p).sum() + (t * t).sum() + 1e-5)
        return loss / (organs + 1)

    def step() -> dict[str, float]:
        loss = torch.zeros((), device=task.device)
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            outputs = [network(images) for network in pair]
            labels = [logits.detach().argmax(1) for logits in outputs]
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


def _step(method: DCA, task: Task, dtype: torch.dtype | None) -> Step:
    import torch

    data = batch(task)
    optimizer = torch.optim.SGD(method.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    method.train()

    def step() -> dict[str, float]:
        torch.manual_seed(0)  # of the boxes that are mixed
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(data["image"].device.type, dtype, enabled=dtype is not None):
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
        convolutions.Pointwise2d: nn.Conv2d,
        convolutions.Dilated2d: nn.Conv2d,
        convolutions.Doubling2d: nn.ConvTranspose2d,
        convolutions.Pointwise3d: nn.Conv3d,
        convolutions.Dilated3d: nn.Conv3d,
        convolutions.Doubling3d: nn.ConvTranspose3d,
    }
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
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


def dfams(network: Any) -> list[Any]:
    """The DFAMs of DCA's network; for volumes it has none."""
    from scripts.networks.aggregation import DFAM

    return [module for module in network.modules() if isinstance(module, DFAM)]


def _projecting_attention(dfam: Any) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """The attention of a DFAM as it is described: projections, then convolutions of them all."""
    import torch

    def attention(maps: list[torch.Tensor]) -> torch.Tensor:
        projected = [project(m) for project, m in zip(dfam.project, maps, strict=True)]
        return dfam.attend(torch.cat(projected, dim=1))

    return attention
