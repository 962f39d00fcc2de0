"""What the tests of all methods need: a method around a small network, a batch, and its gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from scripts.methods import METHODS, create_predictor
from scripts.methods.base import Method


def small_method(
    name: str,
    spatial_dims: int = 2,
    num_classes: int = 5,
    network: dict[str, Any] | None = None,
    width: int = 2,
    seed: int = 0,
    in_channels: int = 1,
    **options: Any,
) -> Method:
    """A method in training mode around a narrow U-Net (2D) or V-Net (3D) without dropout; the seed is torch's."""
    torch.manual_seed(seed)
    style = "unet" if spatial_dims == 2 else "vnet"
    predictor = create_predictor(
        name,
        options={"dropout": 0.0} | (network or {}),
        style=style,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=num_classes,
        width=width,
    )
    return METHODS[name](predictor, **options).train()


def batch(
    spatial: Sequence[int] = (32, 32),
    labelled: int = 2,
    unlabelled: int = 2,
    num_classes: int = 5,
    seed: int = 1,
    channels: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """image [B_l, C_in, *spatial], label [B_l, *spatial] with all classes, image_u [B_u, C_in, *spatial]."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(labelled * math.prod(spatial)).remainder(num_classes + 1).reshape(labelled, *spatial)
    image = torch.randn(labelled, channels, *spatial, generator=generator)
    return image, label, torch.randn(unlabelled, channels, *spatial, generator=generator)


def gradient(loss: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """The gradients of a module's parameters in one vector; no way to them counts as zero."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, grads, strict=True)]
    )


def fixed_normalisation(method: Method, spatial: Sequence[int] = (32, 32)) -> Method:
    """The method in evaluation mode, its normalisation with statistics of noise: outputs do not depend on the batch."""
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    method.predictor(torch.randn(4, 1, *spatial))
    return method.eval()
