"""Voxels and vectors of their classes drawn together, those of other classes pushed apart: a contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

TEMPERATURE = 0.07
NOT_ZERO = 1e-5  # beside the number of a vector's own class, which may be 0
IGNORED = -1  # in the place of a class id


class ClassContrast(nn.Module):
    """The contrastive loss of feature maps at several levels, each with vectors of the classes among them (TAK).

    A small head per level makes the features ready; voxels are drawn anew at every call.

    Args:
        spatial_dims: 2 or 3.
        channels: of the maps, level by level.
        vector_channels: of the vectors from which the rows of all levels but the last are read.
        voxels: at most so many of each class are drawn from each image, level by level.
    """

    def __init__(self, spatial_dims: int, channels: Sequence[int], vector_channels: int, voxels: Sequence[int]) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.voxels = [*voxels]
        self.heads = nn.ModuleList(
            nn.Sequential(
                conv(width, width, 1),
                nn.GroupNorm(width, width, affine=False),  # instance normalisation that takes a map of one voxel, too
                nn.ReLU(),
                conv(width, width, 1),
            )
            for width in channels
        )
        self.read = nn.ModuleList(nn.Linear(vector_channels, width) for width in channels[:-1])

    def forward(
        self,
        levels: Sequence[Sequence[torch.Tensor]],
        labels: Sequence[torch.Tensor],
        vectors: torch.Tensor,
        last: torch.Tensor,
    ) -> torch.Tensor:
        """The sum of the levels' losses, a scalar.

        Args:
            levels: the maps of each level, one or several [M, channels, *coarser], coarser than the images.
            labels: class ids [M, *spatial] of the images of each of these maps, or `IGNORED`.
            vectors: of the classes [V, C, vector_channels], V of each.
            last: what is read from them at the last level, [V, C, channels].
        """
        rows = [*(functional.relu(read(vectors)) for read in self.read), last]
        losses = [self._level(level, maps, labels, rows[level]) for level, maps in enumerate(levels)]
        return torch.stack(losses).sum()

    def _level(
        self, level: int, maps: Sequence[torch.Tensor], labels: Sequence[torch.Tensor], row: torch.Tensor
    ) -> torch.Tensor:
        """The loss of one level; `row` [V, C, channels] is what was read from the vectors."""
        classes = torch.arange(row.shape[1], device=row.device)
        features, ids = [row.flatten(0, 1)], [classes.repeat(len(row))]
        counted = [torch.ones(ids[0].shape, dtype=torch.bool, device=row.device)]
        for m, label in zip(maps, labels, strict=True):
            nearest = functional.interpolate(label.unsqueeze(1).float(), m.shape[2:], mode="nearest-exact")
            index, found = draw_by_class(nearest.flatten(1), len(classes), self.voxels[level])
            place = index.flatten(1).unsqueeze(1).expand(-1, m.shape[1], -1)
            features.append(self.heads[level](m).flatten(2).gather(2, place).movedim(1, 2).flatten(0, 1))
            ids.append(classes.view(-1, 1).expand(found.shape).flatten())
            counted.append(found.flatten())
        return contrastive_loss(torch.cat(features), torch.cat(ids), torch.cat(counted))


def draw_by_class(label: torch.Tensor, classes: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each image and class so many voxels by chance, each once, or all if they are fewer.

    Args:
        label: [M, voxels], class ids; others belong to no class.
        classes: C.
        most: of a class in an image.

    Returns:
        Indices [M, C, most] (or as many as there are voxels), and which of them are voxels of that class.
    """
    keys = torch.rand(label.shape, device=label.device)
    own = label.unsqueeze(1) == torch.arange(classes, device=label.device).view(-1, 1)
    chosen = torch.where(own, keys.unsqueeze(1), -1.0).topk(min(most, label.shape[1]))
    return chosen.indices, chosen.values >= 0


def contrastive_loss(vectors: torch.Tensor, ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The mean over the vectors i of sum_j [log(exp S_ij + sum_n exp S_in) - S_ij] / (number of j), a scalar.

    j are the other vectors of the class of i, n those of other classes, S cosines over the temperature.

    Args:
        vectors: [N, D].
        ids: their classes [N].
        counted: which there are [N], bool; of two classes at least.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        units = functional.normalize(vectors.float())
        similarity = units @ units.T / TEMPERATURE
    same = ids == ids.unsqueeze(1)
    others = similarity.masked_fill(same | ~counted, -torch.inf).logsumexp(1, keepdim=True)
    pairs = same & counted & ~torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    losses = (functional.softplus(others - similarity) * pairs).sum(1) / (pairs.sum(1) + NOT_ZERO)
    return (losses * counted).sum() / counted.sum()
