"""beta-FFT: two views that swap their low frequencies, and mixed unlabelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.distributions import Beta
from torch.nn import functional

from ..losses import segmentation_loss
from ..networks import TwinNet
from .base import sigmoid_ramp
from .parts.copy_paste import cross_dice
from .parts.copy_paste_twins import CopyPasteTwins
from .parts.pseudo_labels import hard_labels

CONCENTRATION = 0.1  # both parameters of the Beta distribution: most mixtures are nearly one of the images


class BetaFFT(CopyPasteTwins):
    """Nonlinear interpolation and differentiated training ("beta-FFT: Nonlinear Interpolation and Differentiated
    Training Strategies for Semi-Supervised Medical Image Segmentation", CVPR 2025).

    L = L_pair + cross_weight * sum over both students i D(s_i(x'), argmax of the other student on x')
        + L_seg(s_1(x_l and a strong view of it), y)
        + mixup_weight * ramp(t) * mean |softmax(s_1(mixup of x_u)) - the same mixup of the teacher's softmax|^2

    with L_pair of `CopyPasteTwins`. x' are the two views after they have swapped their low frequencies; each student
    sees both. The mixup is lambda of an image and 1 - lambda of the next one, lambda ~ Beta(0.1, 0.1), of unlabelled
    images and of strong views of them. The ramp is a sigmoid over the part of the training that follows the first one,
    on labels only.

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
        low: highest frequency that is swapped, along each axis, as a share of the voxels along it.
        mixup_weight: of the mixed unlabelled images. Half of the published one, as the other terms are.
    """

    published: ClassVar[dict[str, Any]] = {"box": 3 / 5}  # with 10 % of the labels; 2/3, the default, with 5 %
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**CopyPasteTwins.tuning, "mixup_weight": (0.1, 0.5)}

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
        low: float = 30 / 256,
        mixup_weight: float = 0.25,
    ) -> None:
        super().__init__(
            predictor,
            unsup_weight=unsup_weight,
            ramp=ramp,
            ramp_length=ramp_length,
            teacher_decay=teacher_decay,
            absent=absent,
            pretraining=pretraining,
            box=box,
            cross_weight=cross_weight,
            jitter=jitter,
            cut_out=cut_out,
        )
        self.low, self.mixup_weight = low, mixup_weight

    def learn_together(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `CopyPasteTwins.learn_together`."""
        taught = self.ask(image_u)
        views = self.views(image, label, image_u, taught)
        swapped = swap_low_frequencies(views[0].image, views[1].image, self.low)
        losses = self.pair_losses(views, self.logits_of([view.image for view in views]))
        losses["loss_swapped"] = cross_dice(self.logits_of([torch.cat(swapped)] * 2), self.absent)
        both, labels = (torch.cat(pair) for pair in zip((image, label), self.strong(image, label), strict=True))
        losses["loss_labelled"] = segmentation_loss(self.predictor.first(both), labels, absent=self.absent)
        losses["loss_mixup"] = self._mixup_loss(image_u, taught)
        mixup_ramp = sigmoid_ramp(progress - self.pretraining, 1.0 - self.pretraining).float()
        loss = (
            losses["loss_supervised"]
            + losses["loss_labelled"]
            + self.ramped_weight(progress) * losses["loss_unlabelled"]
            + self.cross_weight * (losses["loss_cross"] + losses["loss_swapped"])
            + self.mixup_weight * mixup_ramp * losses["loss_mixup"]
        )
        return {"loss": loss, **losses}

    def _mixup_loss(self, image_u: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        """Squared distance of the first student on mixed images from the mixed softmax of the teacher's logits.

        The strong views are mixed by the same shares and have the same target.
        """
        concentration = image_u.new_full([len(image_u), *[1] * (image_u.dim() - 1)], CONCENTRATION)
        share = Beta(concentration, concentration).sample()
        strong, _ = self.strong(image_u, hard_labels(taught))
        weak, strong, target = (x.roll(-1, 0).lerp(x, share) for x in (image_u, strong, taught.softmax(1)))
        student = self.predictor.first(torch.cat([weak, strong])).float().softmax(1)
        return functional.mse_loss(student, torch.cat([target, target]))


def swap_low_frequencies(first: torch.Tensor, second: torch.Tensor, low: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images per place of the batch [B, C_in, *spatial], each with the low frequencies of the other.

    x1 - low1 + low2, and the reverse: what is below the limit is linear, so that the difference needs one transform.
    """
    difference = low_pass(second - first, low)
    return first + difference, second - difference


def low_pass(x: torch.Tensor, low: float) -> torch.Tensor:
    """[B, C_in, *spatial] without the frequencies above the share `low` of the voxels along any of the axes."""
    sizes = list(x.shape[2:])
    axes = list(range(2, x.dim()))
    spectrum = torch.fft.rfftn(x.float(), dim=axes)
    for axis, size in zip(axes, sizes, strict=True):
        # The transform of a real image keeps only the frequencies from 0 on along its last axis.
        frequency = torch.fft.rfftfreq if axis == axes[-1] else torch.fft.fftfreq
        kept = frequency(size, device=x.device).abs() <= low
        spectrum = spectrum * kept.view(-1, *[1] * (axes[-1] - axis))
    return torch.fft.irfftn(spectrum, s=sizes, dim=axes)
