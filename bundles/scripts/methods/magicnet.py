"""MagicNet: images made of each other's cubes, and every cube on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Norm
from torch.nn import functional

from ..losses import segmentation_loss, soft_dice
from ..networks import LocationHead, SegmentationNet, frozen_statistics, miscomputed_in_bfloat16
from ..networks.blocks import crop_to, pad_to_multiple
from ..networks.encoder_decoder import level_widths
from ..settings import expect_at_least
from .parts.class_balance import ClassShares
from .parts.cubes import exchange, from_cubes, random_orders, to_cubes
from .parts.mean_teacher import MeanTeacher
from .parts.pseudo_labels import hard_labels
from .parts.strong_views import add_noise


@dataclass(frozen=True)
class Look:
    """What a step sees.

    losses: of `Method.forward`.
    ways: the maps (`MagicNet.maps`) of the labelled images, whole; and of all images, mixed and within, put in order.
    teacher, blended: logits [B_u, C, *spatial] for the unlabelled images; None without any.
    """

    losses: dict[str, torch.Tensor]
    ways: Sequence[list[torch.Tensor]]
    teacher: torch.Tensor | None = None
    blended: torch.Tensor | None = None


class MagicNet(MeanTeacher):
    """Magic-cube partition and recovery ("MagicNet: Semi-Supervised Multi-Organ Segmentation via Magic-Cube Partition
    and Recovery", CVPR 2023).

    The images, labelled and unlabelled, are divided into a grid of cubes and segmented in three ways: whole; mixed,
    where at each position the cubes change places between the images, and the features return to their own image
    before the output convolution; and within, where every cube passes the network alone. With Dice D,

        L = [CE(whole_l, y) + D(whole_l, y) + D(mixed_l, y) + D(within_l, y)] / 4 + location_weight * CE(position)
            + weight * ramp(t) * D(mixed_u, argmax((1 - o) teacher(x_u + noise) + o within_u))

    The position of every cube is told from its deepest features by a head of its own. In the pseudo-label o is the
    frequency of the teacher's class among the recent pseudo-labels, divided by that of the most frequent class: where
    the teacher sees a common class, the single cubes, which no large organ dominates, have the say.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        grid: cubes per axis.
        location_weight: of telling the positions.
        decay: of the moving average of the frequencies.
        noise: standard deviation of what is added to the teacher's images; it is clipped at twice that.

    Raises:
        UserError: a grid of one cube.
    """

    network: Callable[..., SegmentationNet] = SegmentationNet
    published: ClassVar[dict[str, Any]] = {"grid": 3}
    published_network: ClassVar[dict[str, Any]] = {"norm": Norm.INSTANCE}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**MeanTeacher.tuning, "location_weight": (0.03, 0.3)}

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "skip",
        grid: int = 2,
        location_weight: float = 0.1,
        decay: float = 0.95,
        noise: float = 0.1,
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, teacher_decay=teacher_decay
        )
        expect_at_least("method magicnet, grid", grid, 2)
        self.predictor: SegmentationNet = predictor
        self.absent, self.grid, self.location_weight, self.noise = absent, grid, location_weight, noise
        self.positions = grid**predictor.spatial_dims
        deepest = level_widths(predictor.decoder.out.in_channels)[-1]
        self.location = LocationHead(predictor.spatial_dims, deepest, self.positions)
        self.recent = ClassShares(predictor.num_classes, decay)
        self.recent.start(torch.zeros(predictor.num_classes + 1))

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        return self.look(image, label, image_u, progress).losses

    def look(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> Look:
        """The losses, and what they were made from; arguments as for `Method.forward`."""
        images = image if image_u is None else torch.cat([image, image_u])
        size, labelled = list(images.shape), len(image)
        images = pad_to_multiple(images, self.grid)
        orders = random_orders(len(images), self.positions, images.device)
        maps, _ = self._run(torch.cat([images[:labelled], exchange(images, orders, self.grid)]))
        alone, location = self._cube_by_cube(images)
        ways = [m[:labelled] for m in maps], [self._unmixed(m[labelled:], orders) for m in maps], alone
        whole, mixed, within = (crop_to(self.logits(way), size) for way in ways)
        losses = {
            "loss_supervised": self.supervised_loss([whole, mixed[:labelled], within[:labelled]], label),
            "loss_location": location,
        }
        loss = losses["loss_supervised"] + self.location_weight * location
        if image_u is None:
            return Look({"loss": loss, **losses}, ways)
        teacher, blended = self._ask(image_u, within[labelled:])
        losses["loss_unlabelled"] = self.pseudo_loss(mixed[labelled:], hard_labels(blended))
        loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return Look({"loss": loss, **losses}, ways, teacher, blended)

    def supervised_loss(self, logits: Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """The loss of the labelled images, segmented whole, mixed and within, each [B_l, C, *spatial], a scalar."""
        whole, *others = logits
        loss = 2.0 * segmentation_loss(whole, label, absent=self.absent)
        return (loss + torch.stack([self._dice(z, label) for z in others]).sum()) / 4.0

    def pseudo_loss(self, logits: torch.Tensor, pseudo: torch.Tensor) -> torch.Tensor:
        """The loss of the mixed unlabelled images [B_u, C, *spatial] against [B_u, *spatial], a scalar."""
        return self._dice(logits, pseudo)

    def _dice(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return soft_dice(logits.float().softmax(1), target, absent=self.absent)

    def maps(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """What of the student's maps makes its logits, out of the encoder's: here the decoder's last one, in a list."""
        return self.predictor.decoder.maps(features)[-1:]

    def logits(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Logits [B, C, *spatial] out of `maps`."""
        logits: torch.Tensor = self.predictor.decoder.out(maps[-1])
        return logits

    def _run(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The `maps` of [B, C_in, *spatial], of each as much as shows the images, and the encoder's deepest one."""
        net = self.predictor
        features = net.encoder(pad_to_multiple(images, net.divisor))
        return without_padding(self.maps(features), images, features[0].shape[2]), features[-1]

    def _unmixed(self, maps: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
        """[B, C, *spatial] of mixed images, with every cube back in its own image."""
        cubes = exchange(pad_to_multiple(maps, self.grid), orders.argsort(0), self.grid)
        return crop_to(cubes, list(maps.shape))

    def _cube_by_cube(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The `maps` of all cubes, put together, and the loss of telling their positions.

        Whole images are what is predicted: the statistics that normalisation remembers for that are theirs.
        """
        net, cubes = self.predictor, to_cubes(images, self.grid).flatten(0, 1)
        small = miscomputed_in_bfloat16(pad_to_multiple(cubes, net.divisor))
        with frozen_statistics(net), torch.autocast("cpu", enabled=False) if small else nullcontext():
            maps, deepest = self._run(cubes)
            location = self.location(deepest)
        target = torch.arange(self.positions, device=images.device).repeat(len(images))
        alone = [from_cubes(m.unflatten(0, (len(images), self.positions)), self.grid) for m in maps]
        return alone, functional.cross_entropy(location.float(), target)

    @torch.no_grad()
    def _ask(self, image_u: torch.Tensor, within: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's logits [B, C, *spatial] of [B, C_in, *spatial], and these blended with those `within` cubes."""
        teacher = self.teacher(add_noise(image_u, self.noise)).float()
        frequency = self.recent.shares / self.recent.shares.max().clamp_min(torch.finfo(torch.float32).tiny)
        blended = teacher.lerp(within.float(), frequency[hard_labels(teacher)].unsqueeze(1))
        self.recent.update(hard_labels(blended))
        return teacher, blended


def without_padding(maps: list[torch.Tensor], images: torch.Tensor, padded: int) -> list[torch.Tensor]:
    """The voxels of maps [B, C, *coarser] that show [B, C_in, *spatial], whose first axis was `padded` to so many."""
    strides = [padded // m.shape[2] for m in maps]
    return [
        crop_to(m, [0, 0, *(-(-side // stride) for side in images.shape[2:])])
        for m, stride in zip(maps, strides, strict=True)
    ]
