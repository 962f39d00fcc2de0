"""Two plain networks side by side, for methods in which two networks teach each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.layers.factories import Norm
from torch import nn

from ..settings import expect_one_of
from .encoder_decoder import SegmentationNet

PREDICTIONS = ("mean", "first", "second")
INITIALISATIONS = ("default", "kaiming_xavier")


class TwinNet(nn.Module):
    """Two networks of the same shape with weights of their own; the prediction is the mean of their logits.

    Args:
        style: "vnet" or "unet".
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: foreground classes K; the logits have K + 1 channels.
        width: channels of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        dropout: probability at every level; None takes the style's own (U-Net: 0.05 to 0.5, V-Net: none).
        prediction: "mean" of both networks' logits, or the logits of only the "first" or "second".
        initialisation: "default" draws both alike; "kaiming_xavier" draws the first network's convolutions by He's
            normal rule and the second's by Glorot's, so that the two begin further apart (CPS).

    Raises:
        UserError: an unknown prediction or initialisation.
    """

    def __init__(
        self,
        style: str,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        width: int = 16,
        norm: str = Norm.BATCH,
        dropout: float | None = None,
        prediction: str = "mean",
        initialisation: str = "default",
    ) -> None:
        super().__init__()
        expect_one_of("prediction", prediction, PREDICTIONS)
        expect_one_of("initialisation", initialisation, INITIALISATIONS)
        self.prediction, self.num_classes = prediction, num_classes
        self.first, self.second = (
            SegmentationNet(style, spatial_dims, in_channels, num_classes, width, norm, dropout) for _ in range(2)
        )
        if initialisation == "kaiming_xavier":
            _draw(self.first, nn.init.kaiming_normal_)
            _draw(self.second, nn.init.xavier_normal_)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C_in, *spatial] of any size to logits [B, K + 1, *spatial] of the chosen prediction."""
        if self.prediction == "first":
            return self.first(x)
        if self.prediction == "second":
            return self.second(x)
        return 0.5 * (self.first(x) + self.second(x))


def _draw(network: nn.Module, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            rule(module.weight)
