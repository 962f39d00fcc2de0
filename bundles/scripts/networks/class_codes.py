"""The plain network with an output layer whose weights come from a code of the class and a code of the image."""

from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Norm, Pool
from torch import nn
from torch.nn import functional

from ..settings import expect_one_of
from .blocks import crop_to, output_conv, pad_to_multiple
from .encoder_decoder import SegmentationNet, level_widths

TEXTS = ("learned", "random")
TEXT_CHANNELS, TEXT_SPREAD = 512, 0.21  # of CLIP's vectors, and their standard deviation (TAK's release)
HIDDEN = 8  # channels of the output layers
GROUPS = 16
DEEPEST = 3  # of the encoder's maps, from which the image's code comes


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in 16 groups, or in as many as divide the channels."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class ClassCodeNet(SegmentationNet):
    """A SegmentationNet whose logits of a class come from three layers of the class's own, at every voxel (TAK).

    A linear layer makes the layers' weights out of the code of the class and that of the image. The code of a class
    comes from two vectors, which in the paper are CLIP's of two sentences; that of the image from the encoder's three
    deepest maps. The vectors here know nothing of language: any that are linearly independent can express the same.

    The class's layers begin as convolutions drawn by He's rule do, by the bias of the linear layer that makes them, to
    which the codes add. By torch's own rule they begin so small that the logits hardly depend on the voxel, and a
    training of some hundreds of steps does not get away from there.

    Args:
        style: "vnet" or "unet".
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: foreground classes K; the logits have K + 1 channels.
        width: channels of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        dropout: probability at every level; None takes the style's own (U-Net: 0.05 to 0.5, V-Net: none).
        text: whether the classes' vectors are "learned", or stay as they were drawn ("random").

    Raises:
        UserError: an unknown kind of vectors.
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
        text: str = "learned",
    ) -> None:
        super().__init__(style, spatial_dims, in_channels, num_classes, width, norm, dropout)
        expect_one_of("text", text, TEXTS)
        vectors = TEXT_SPREAD * torch.randn(2, num_classes + 1, TEXT_CHANNELS)
        self.text = nn.Parameter(vectors, requires_grad=text == "learned")
        code = level_widths(width)[-1]
        self.read = nn.Linear(TEXT_CHANNELS, code)
        self.join = nn.Linear(2 * code, code)
        pool = Pool[Pool.ADAPTIVEAVG, spatial_dims]
        self.image_codes = nn.ModuleList(
            nn.Sequential(group_norm(channels), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(channels, code))
            for channels in level_widths(width)[-DEEPEST:]
        )
        self.sizes = [HIDDEN * HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, HIDDEN, 1]  # three layers' weights, and biases
        self.control = nn.Linear(2 * code, sum(self.sizes))
        self.last_norm = group_norm(width)
        self.decoder.out = output_conv(style, spatial_dims, width, HIDDEN)
        with torch.no_grad():
            biases = 2 * HIDDEN + 1  # which stand last
            self.control.bias[:-biases].uniform_(-math.sqrt(6 / HIDDEN), math.sqrt(6 / HIDDEN))
            self.control.bias[-biases:].zero_()

    def tokens(self) -> torch.Tensor:
        """What is read from the two vectors of each class, [2, K + 1, 16 n]."""
        return functional.relu(self.read(self.text))

    def class_codes(self) -> torch.Tensor:
        """[K + 1, 16 n]."""
        tokens = self.tokens()
        return functional.relu(self.join(torch.cat([tokens[0], tokens[1]], dim=-1)))

    def image_code(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Codes [B, 16 n] of images with these encoder maps, of which the last three count."""
        codes: list[torch.Tensor] = []
        for i, part in enumerate(self.image_codes):
            codes.append(part(features[len(features) - len(self.image_codes) + i]))
        return torch.stack(codes).mean(0)

    def logits(self, last: torch.Tensor, image_code: torch.Tensor) -> torch.Tensor:
        """The decoder's last map [B, n, *spatial] and the images' codes [B, 16 n] to logits [B, K + 1, *spatial]."""
        codes = self.class_codes()
        batch, classes = image_code.shape[0], codes.shape[0]
        pairs = torch.cat(
            [image_code.unsqueeze(1).expand(-1, classes, -1), codes.unsqueeze(0).expand(batch, -1, -1)], dim=-1
        )
        w1, w2, w3, b1, b2, b3 = self.control(pairs).split(self.sizes, dim=-1)
        hidden = self.decoder.out(functional.relu(self.last_norm(last)))
        voxels, size = hidden.flatten(2), hidden.shape[1]
        # The first layer is of all classes at once, since they see the same; the others are of each pair by itself.
        x = torch.baddbmm(b1.reshape(batch, -1, 1), w1.reshape(batch, -1, size), voxels).relu_()
        x = x.reshape(batch * classes, size, -1)
        x = torch.baddbmm(b2.reshape(-1, size, 1), w2.reshape(-1, size, size), x).relu_()
        x = torch.baddbmm(b3.reshape(-1, 1, 1), w3.reshape(-1, 1, size), x)
        shape = list(hidden.shape)
        shape[1] = classes
        return x.reshape(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C_in, *spatial] of any size to logits [B, K + 1, *spatial]."""
        features = self.encoder(pad_to_multiple(x, self.divisor))
        return crop_to(self.logits(self.decoder.maps(features)[-1], self.image_code(features)), list(x.shape))
