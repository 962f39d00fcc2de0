"""Two students that see weak and strong views of the same copy-paste mixtures: the base of ABD and beta-FFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ...networks import MovingAverage, TwinNet
from ..base import SemiSupervised
from .copy_paste import (
    COMPONENTS,
    LABELS_ONLY,
    Mixture,
    component_labels,
    cross_dice,
    labelled_loss,
    labelled_regions,
    mix,
    pairs,
)
from .strong_views import change_intensities, cut_out_boxes


class CopyPasteTwins(SemiSupervised):
    """The common part of the methods with two students on top of BCP.

    L_pair = sum over both students i [L_seg(s_i(x_i), y; R) + weight * L_seg(s_i(x_i), pseudo-label; not R)]
             + cross_weight * sum over i D(s_i(x_i), argmax of the other student on its own view)

    with the mixtures, regions R and pseudo-labels of `BCP`, and Dice D. x_1 is the mixture, x_2 a strong view of it:
    its images have their brightness and contrast changed before they are mixed, and a box of some is filled with noise
    and counts as background. The papers sum over both directions of the mixing, 2 L_seg(y) + L_seg(pseudo-label) + D;
    here both are one batch with half of that loss, so that D has half of its weight, too.

    The teacher follows the first student. As long as there are labels only to learn from, at first (`pretraining`) or
    always, only the first student learns, as in `BCP`, and the second is a copy of it.

    A method of this kind defines `learn_together`.

    Args:
        predictor: the TwinNet of both students.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        pretraining: share of the training on labelled images only.
        box: side of the box, as a share of the image's.
        cross_weight: weight of what the students learn from each other.
        jitter: brightness and contrast of a strong view change by factors of up to 1 +- this.
        cut_out: rate of boxes of noise.
    """

    network = TwinNet
    waits = COMPONENTS
    published_network: ClassVar[dict[str, Any]] = {"prediction": "first"}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (0.25, 1.0),
        "teacher_decay": (0.98, 0.995),
        "pretraining": (0.1,),
        "cross_weight": (0.25, 1.0),
    }

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.5,
        ramp: str = "constant",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "skip",
        pretraining: float = 0.25,
        box: float = 2 / 3,
        cross_weight: float = 0.5,
        jitter: float = 0.8,
        cut_out: float = 0.5,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        self.predictor: TwinNet = predictor
        predictor.second.load_state_dict(predictor.first.state_dict())
        self.teacher = MovingAverage(predictor.first, teacher_decay)
        self.absent, self.pretraining, self.box = absent, pretraining, box
        self.cross_weight, self.jitter, self.cut_out = cross_weight, jitter, cut_out
        self.alike = True  # whether this step leaves the second student a copy of the first

    @property
    def changes(self) -> tuple[float, ...]:
        """See `Method.changes`: after the part on labels only."""
        return (self.pretraining,)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        self.alike = image_u is None or self.form == LABELS_ONLY
        if image_u is None or self.alike:
            return {"loss": labelled_loss(self.predictor.first, image, label, self.box, self.absent)}
        return self.learn_together(image, label, image_u, progress)

    def learn_together(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """The losses of a step of both students; arguments and result are those of `Method.forward`."""
        raise TypeError(f"{type(self).__name__} does not define its losses")

    @torch.no_grad()
    def ask(self, image_u: torch.Tensor) -> torch.Tensor:
        """The teacher's logits [B, C, *spatial] of unlabelled images."""
        logits: torch.Tensor = self.teacher(image_u).float()
        return logits

    def views(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor, taught: torch.Tensor
    ) -> tuple[Mixture, Mixture]:
        """A weak and a strong view of mixtures of labelled and unlabelled images; `taught`: the teacher's logits."""
        labelled, unlabelled = pairs(len(image), len(image_u), image.device)
        pseudo = component_labels(taught, self.predictor.num_classes)
        known, other = (image[labelled], label[labelled]), (image_u[unlabelled], pseudo[unlabelled])
        region = labelled_regions(other[0], self.box)
        return mix(*known, *other, region), mix(*self.strong(*known), *self.strong(*other), region)

    def strong(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Strong views of [B, C_in, *spatial] and their labels [B, *spatial]."""
        return cut_out_boxes(change_intensities(image, self.jitter), label, self.cut_out)

    def logits_of(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The logits [B, C, *spatial] of the first and the second student, each of images of its own."""
        return [self.predictor.first(images[0]), self.predictor.second(images[1])]

    def pair_losses(self, views: tuple[Mixture, Mixture], logits: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The parts of L_pair, unweighted, from both students' logits [B, C, *spatial] of their own views."""
        weak, strong = (view.losses(z, self.absent) for view, z in zip(views, logits, strict=True))
        losses = {name: weak[name] + strong[name] for name in weak}
        return losses | {"loss_cross": cross_dice(logits, self.absent)}

    @torch.no_grad()
    def after_step(self, progress: torch.Tensor | float) -> None:
        """See `Method.after_step`."""
        self.teacher.update_parameters(self.predictor.first)
        if self.alike:
            self.predictor.second.load_state_dict(self.predictor.first.state_dict())
