"""Self-training: a network learns from labels, and the next one from these and from the first one's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import distributed

from ..errors import UserError
from ..losses import segmentation_loss
from ..networks import SegmentationNet, mean_over_mirror_images
from ..settings import expect_at_least
from .base import Method
from .parts.pseudo_labels import hard_labels

LABELS_ONLY = 0  # the form of the first round


class SelfTraining(Method):
    """Self-training in rounds, as challenge entries built on nnU-Net do it (FLARE 2022).

    The training is divided into rounds of equal length. In the first one the network learns from labels alone:

        L = L_seg(net(x_l), y)

    At the start of every other round the network becomes the teacher, which stays as it is, and a new one is drawn in
    its place. It learns from labelled and unlabelled images in one batch:

        L = L_seg(net(x_l, u), (y, y'))

    y' is the argmax of the teacher in evaluation mode, without a threshold. The learning rate starts anew, too. All
    rounds together have the steps of one training.

    Args:
        predictor: the network.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        rounds: parts of the training.
        mirror: spatial axes, counted from 0, along which the teacher's images are mirrored: its probabilities are the
            mean over all combinations. Not for organs that have a side.

    Raises:
        UserError: one round only, or an axis that the images do not have.
    """

    network = SegmentationNet
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {"absent": ("smooth",), "rounds": (3,)}

    def __init__(
        self, predictor: SegmentationNet, absent: str = "skip", rounds: int = 2, mirror: Sequence[int] = ()
    ) -> None:
        super().__init__(predictor)
        expect_at_least("method self_training, rounds", rounds, 2)
        dims = predictor.spatial_dims
        if not set(mirror) <= set(range(dims)):
            raise UserError(f"method self_training, mirror: expected axes from 0 to {dims - 1}, found {list(mirror)}")
        self.absent, self.rounds, self.mirror = absent, rounds, mirror
        self.teacher = deepcopy(predictor).requires_grad_(False).eval()
        self.round = 0

    @property
    def changes(self) -> tuple[float, ...]:
        """See `Method.changes`: every round."""
        return tuple(number / self.rounds for number in range(1, self.rounds))

    def enter(self, progress: float) -> int:
        """See `Method.enter`; in a new round the network becomes the teacher, and a new one takes its place."""
        if super().enter(progress) > self.round:
            self.round = self.form
            self.teacher.load_state_dict(self.predictor.state_dict())
            draw_anew(self.predictor)
        return self.form

    def train(self, mode: bool = True) -> SelfTraining:
        """As for any module, but the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def get_extra_state(self) -> torch.Tensor:
        """The number of the round, for the state dict. As a buffer it would have to be read from the device."""
        return torch.tensor(self.round)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Go on in this round."""
        self.round = int(state)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        if image_u is not None and self.form != LABELS_ONLY:
            image, label = torch.cat([image, image_u]), torch.cat([label, self._label(image_u)])
        return {"loss": segmentation_loss(self.predictor(image), label, absent=self.absent)}

    @torch.no_grad()
    def _label(self, image_u: torch.Tensor) -> torch.Tensor:
        """The teacher's pseudo-labels [B, *spatial] of [B, C_in, *spatial]."""

        def probabilities(image: torch.Tensor) -> torch.Tensor:
            return self.teacher(image).float().softmax(1)

        return hard_labels(mean_over_mirror_images(probabilities, image_u, self.mirror))


@torch.no_grad()
def draw_anew(network: torch.nn.Module) -> None:
    """Give a network the weights and the statistics of a new one, in place, out of torch's random state."""
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    if distributed.is_available() and distributed.is_initialized():  # every process draws numbers of its own
        for parameter in network.parameters():
            first = parameter.contiguous()
            distributed.broadcast(first, 0)
            parameter.copy_(first)
