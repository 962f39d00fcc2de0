"""MagicNet: images made of each other's cubes, and every cube on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
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

    network = SegmentationNet
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
        images = image if image_u is None else torch.cat([image, image_u])
        size, labelled = list(images.shape), len(image)
        images = pad_to_multiple(images, self.grid)
        orders = random_orders(len(images), self.positions, images.device)
        features = self._features(torch.cat([images[:labelled], exchange(images, orders, self.grid)]))
        unmixed = exchange(features[labelled:], orders.argsort(0), self.grid)
        alone, location = self._cube_by_cube(images)
        out = self.predictor.decoder.out
        whole, mixed, within = (crop_to(out(f), size) for f in (features[:labelled], unmixed, alone))
        losses = {
            "loss_supervised": self.supervised_loss([whole, mixed[:labelled], within[:labelled]], label),
            "loss_location": location,
        }
        loss = losses["loss_supervised"] + self.location_weight * location
        if image_u is not None:
            pseudo = self._label(image_u, within[labelled:])
            losses["loss_unlabelled"] = self.pseudo_loss(mixed[labelled:], pseudo)
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

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

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """The student's last feature map [B, n, *spatial] of [B, C_in, *spatial]."""
        net = self.predictor
        maps = net.decoder.maps(net.encoder(pad_to_multiple(images, net.divisor)))
        return crop_to(maps[-1], list(images.shape))

    def _cube_by_cube(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last feature maps of all cubes, put together [B, n, *spatial], and the loss of telling their positions.

        Whole images are what is predicted: the statistics that normalisation remembers for that are theirs.
        """
        net, cubes = self.predictor, to_cubes(images, self.grid).flatten(0, 1)
        size = list(cubes.shape)
        cubes = pad_to_multiple(cubes, net.divisor)
        exact = torch.autocast("cpu", enabled=False) if miscomputed_in_bfloat16(cubes) else nullcontext()
        with frozen_statistics(net), exact:
            features = net.encoder(cubes)
            maps = crop_to(net.decoder.maps(features)[-1], size)
            location = self.location(features[-1])
        target = torch.arange(self.positions, device=images.device).repeat(len(images))
        alone = from_cubes(maps.unflatten(0, (len(images), self.positions)), self.grid)
        return alone, functional.cross_entropy(location.float(), target)

    @torch.no_grad()
    def _label(self, image_u: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
        """Pseudo-labels [B, *spatial] of [B, C_in, *spatial], out of the teacher's logits and those `within` cubes."""
        teacher = self.teacher(add_noise(image_u, self.noise)).float()
        frequency = self.recent.shares / self.recent.shares.max().clamp_min(torch.finfo(torch.float32).tiny)
        pseudo = hard_labels(teacher.lerp(within.float(), frequency[hard_labels(teacher)].unsqueeze(1)))
        self.recent.update(pseudo)
        return pseudo
