"""TAK: GA with an output layer of each class's own, and voxels that gather around vectors of their classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..networks import ClassCodeNet
from ..networks.blocks import pad_to_multiple
from ..networks.encoder_decoder import level_widths
from ..settings import expect_at_least
from .base import sigmoid_ramp
from .ga import GA
from .magicnet import Look, without_padding
from .parts.class_contrast import IGNORED, ClassContrast
from .parts.pseudo_labels import hard_labels
from .ua_mt import BINARY, FIRST_SHARE, LAST_SHARE

LEVELS = 3  # of the encoder, the deepest ones
EPOCHS = 161  # of the released training
START, SURE_LENGTH = 21 / EPOCHS, 100 / EPOCHS  # shares of the training: L_con begins; its entropy threshold is up


class TAK(GA):
    """Textual anatomical knowledge ("Leveraging Textual Anatomical Knowledge for Class-Imbalanced Semi-Supervised
    Multi-Organ Segmentation", arXiv 2501.13470) on top of GA, with a table of vectors in the place of CLIP's.

    L = L_GA + contrast_weight * L_con

    The output layer is that of `ClassCodeNet`. L_con, from a share `start` of the training on, is `ClassContrast` of
    the encoder's three deepest maps of all images, segmented whole, mixed and within, and of the classes' vectors. The
    class of an unlabelled voxel is that of the teacher, or within that of the pseudo-label; where the entropy of either
    is above (3/4 + ramp / 4) ln 2, the voxel is left out.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        grid: cubes per axis.
        location_weight: weight of telling the positions.
        decay: share that the moving average of the frequencies keeps of itself at every step.
        noise: standard deviation of what is added to the teacher's images; it is clipped at twice that.
        hardest: share of the labelled voxels that GACE keeps.
        balance: of GACE, between equal classes (0) and equal voxels (1).
        contrast_weight: of L_con.
        start: share of the training before L_con.
        voxels: at most so many of each class are drawn from each image for L_con; half as many one level deeper, and a
            quarter at the deepest. Memory and time grow with their square.

    Raises:
        UserError: too few voxels for the deepest level.
    """

    network = ClassCodeNet
    published: ClassVar[dict[str, Any]] = {**GA.published, "voxels": 40}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**GA.tuning, "contrast_weight": (0.03, 0.3)}

    def __init__(
        self,
        predictor: ClassCodeNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "probability",
        grid: int = 2,
        location_weight: float = 0.1,
        decay: float = 0.95,
        noise: float = 0.1,
        hardest: float = 0.1,
        balance: float = 0.5,
        contrast_weight: float = 0.1,
        start: float = START,
        voxels: int = 8,
    ) -> None:
        super().__init__(
            predictor,
            unsup_weight=unsup_weight,
            ramp=ramp,
            ramp_length=ramp_length,
            teacher_decay=teacher_decay,
            absent=absent,
            grid=grid,
            location_weight=location_weight,
            decay=decay,
            noise=noise,
            hardest=hardest,
            balance=balance,
        )
        expect_at_least("method tak, voxels", voxels, 2 ** (LEVELS - 1))
        self.predictor: ClassCodeNet = predictor
        self.contrast_weight, self.start, self.voxels = contrast_weight, start, voxels
        channels = level_widths(predictor.decoder.out.in_channels)[-LEVELS:]
        drawn = [voxels // 2**level for level in range(LEVELS)]
        self.contrast = ClassContrast(predictor.spatial_dims, channels, predictor.text.shape[-1], drawn)

    @property
    def changes(self) -> tuple[float, ...]:
        """See `Method.changes`: before and with L_con."""
        return (self.start,)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        look = self.look(image, label, image_u, progress)
        if self.form == 0:
            return look.losses
        contrast = self._contrast(look, label, image_u, progress)
        loss = look.losses["loss"] + self.contrast_weight * contrast
        return {**look.losses, "loss": loss, "loss_contrast": contrast}

    def maps(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """See `MagicNet.maps`: the encoder's three deepest maps, and the decoder's last one."""
        return [*features[-LEVELS:], *super().maps(features)]

    def logits(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """See `MagicNet.logits`."""
        return self.predictor.logits(maps[-1], self.predictor.image_code(maps[:LEVELS]))

    def _contrast(
        self, look: Look, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> torch.Tensor:
        """L_con."""
        ways, labels = list(look.ways), [label, label, label]
        if image_u is not None and look.teacher is not None and look.blended is not None:
            teacher, blended = (self._sure(logits, progress) for logits in (look.teacher, look.blended))
            labels = [label, torch.cat([label, teacher]), torch.cat([label, blended]), teacher]
            net = self.predictor  # the student has seen these images in pieces only
            features = net.encoder(pad_to_multiple(image_u, net.divisor))
            ways.append(without_padding(features[-LEVELS:], image_u, features[0].shape[2]))
        levels = [[way[level] for way in ways] for level in range(LEVELS)]
        return self.contrast(levels, labels, self.predictor.text, self.predictor.tokens())

    @torch.no_grad()
    def _sure(self, logits: torch.Tensor, progress: torch.Tensor | float) -> torch.Tensor:
        """The classes [B, *spatial] of logits [B, C, *spatial], or `IGNORED` where their entropy is too high."""
        entropy = torch.special.entr(logits.softmax(1)).sum(1)
        share = FIRST_SHARE + (LAST_SHARE - FIRST_SHARE) * sigmoid_ramp(progress, SURE_LENGTH)
        return torch.where(entropy < share * math.log(BINARY), hard_labels(logits), IGNORED)
