"""Features that gather by class: a memory of each class's features, and a loss that draws others towards them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class ClassSeparation(nn.Module):
    """Draws the features f of voxels towards what a memory keeps of their class (SS-Net, Class-separation).

    mean over classes of mean over voxels i and memory entries j of v_i w_j (1 - cos(predict(project(f_i)), m_j))

    The weights v and w are sigmoids of selectors, one per class and side, over their mean. Into the memory go, each
    step, those projected features of correctly predicted labelled voxels that the class's selector rates highest.
    Background is never drawn anywhere; a class that has no voxel or no memory has no term.

    Args:
        channels: of the features.
        num_classes: foreground classes K.
        size: features kept per class, the latest ones.
        voxels: at most so many of each class are looked at: all of them would take more memory than the network.
    """

    memory: torch.Tensor
    filled: torch.Tensor

    def __init__(self, channels: int, num_classes: int, size: int = 32, voxels: int = 1024) -> None:
        super().__init__()
        self.num_classes, self.size, self.voxels = num_classes, size, voxels
        width = 2 * channels
        self.project, self.predict = perceptron(channels, width), perceptron(width, width)
        self.rate_voxels = nn.ModuleList(selector(width) for _ in range(num_classes))
        self.rate_memory = nn.ModuleList(selector(width) for _ in range(num_classes))
        self.register_buffer("memory", torch.zeros(num_classes, size, width))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.long))

    def forward(
        self, features: torch.Tensor, label: torch.Tensor, predicted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            features: [B, channels, *spatial].
            label: [B, *spatial], the class of each voxel.
            predicted: [B, *spatial], class ids that were predicted where `label` is the true one: then the features
                enter the memory before the loss is taken.
        """
        index = draw_by_class(label, self.num_classes + 1, self.voxels)
        ids, size = label.flatten()[index], label[0].numel()
        vectors = features.flatten(2)[index // size, :, index % size]
        with torch.autocast(features.device.type, enabled=False):
            # Background passes through the normalisation as well, which so has voxels in every process.
            projected = self.project(vectors.float())
            if predicted is not None:
                correct = predicted.flatten()[index] == ids
                self._remember(projected.detach()[correct], ids[correct], max(1, self.size // len(label)))
            return self._attract(self.predict(projected), ids)

    def _attract(self, vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The loss of vectors [M, width] of classes [M]."""
        losses = []
        for c, filled in enumerate(self.filled.tolist()):
            own, kept = vectors[ids == c + 1], self.memory[c, :filled].clone()
            if len(own) > 0 and filled > 0:
                distance = 1.0 - functional.normalize(own) @ functional.normalize(kept).T
                weight = relative(self.rate_voxels[c](own.detach())) * relative(self.rate_memory[c](kept)).T
                losses.append((weight * distance).mean())
        return torch.stack(losses).mean() if losses else vectors.new_zeros(())

    @torch.no_grad()
    def _remember(self, vectors: torch.Tensor, ids: torch.Tensor, most: int) -> None:
        """Put vectors [M, width] of classes [M], at most so many of each, in front of those that are kept."""
        for c, filled in enumerate(self.filled.tolist()):
            own = vectors[ids == c + 1]
            best = self.rate_voxels[c](own).flatten().topk(min(most, len(own))).indices
            latest = torch.cat([own[best], self.memory[c, :filled]])[: self.size]
            self.memory[c, : len(latest)] = latest
            self.filled[c] = len(latest)


def draw_by_class(label: torch.Tensor, channels: int, most: int) -> torch.Tensor:
    """Indices [M] into the flattened ids [B, *spatial]: of each class all voxels, or `most` drawn with replacement."""
    ids, chosen = label.flatten(), []
    for c in range(channels):
        own = (ids == c).nonzero().flatten()
        chosen.append(own if len(own) <= most else own[torch.randint(len(own), (most,), device=own.device)])
    return torch.cat(chosen)


def perceptron(channels: int, width: int) -> nn.Sequential:
    """Vectors [M, channels] to [M, width]: a hidden layer with batch normalisation, and a linear one."""
    return nn.Sequential(nn.Linear(channels, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))


def selector(width: int) -> nn.Sequential:
    """Rates vectors [M, width] by a number each, [M, 1]."""
    return nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))


def relative(ratings: torch.Tensor) -> torch.Tensor:
    """Sigmoids of ratings [M, 1] over their mean: they choose among the vectors, and cannot turn all of them down."""
    weights = ratings.sigmoid()
    return weights / weights.mean().clamp_min(torch.finfo(weights.dtype).tiny)
