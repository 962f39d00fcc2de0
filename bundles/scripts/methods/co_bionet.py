"""Co-BioNet: two networks that teach each other, each with a critic that says where it is to be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from ..by_class import one_hot
from ..losses import segmentation_loss
from ..networks import TwinNet, VoxelCritic
from .base import SemiSupervised


class CoBioNet(SemiSupervised):
    """Uncertainty-guided dual views ("Uncertainty-guided dual-views for semi-supervised volumetric medical image
    segmentation", Nature Machine Intelligence 2023), for several classes.

    Over both networks i, the other one being j, with the softmax u and the critic D,

        L = sum_i L_seg(logits_i(x_l), y)
            + weight * ramp(t) * sum_i (mean((1 + m_j) * CE(u_i, u_j)) + adversarial_weight * BCE(D_i(u_i), 1)) / 2
            + sum_i (BCE(D_i(y), 1) + BCE(D_i(u_i), 0)) / 2,
        m_j = [sigmoid(D_j(u_j)) > threshold]

    The second line is of the unlabelled images, u_j in it constant, and D_i too: it trains the networks. The third line
    is of all images, u_i in it constant: it trains the critics.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        adversarial_weight: of what the critics say of the networks.
        threshold: probability of being a label from which on a voxel of the other network counts twice.
    """

    network = TwinNet
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (0.3, 3.0),
        "ramp_length": (1.0,),
        "adversarial_weight": (0.003, 0.03),
        "threshold": (0.2,),
    }

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 1.0,
        ramp: str = "sigmoid",
        ramp_length: float = 0.4,
        absent: str = "skip",
        adversarial_weight: float = 0.01,
        threshold: float = 0.4,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        self.predictor: TwinNet = predictor
        self.absent, self.adversarial_weight, self.threshold = absent, adversarial_weight, threshold
        channels, spatial_dims = predictor.num_classes + 1, predictor.first.spatial_dims
        self.critics = nn.ModuleList(VoxelCritic(spatial_dims, channels) for _ in range(2))

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        images = image if image_u is None else torch.cat([image, image_u])
        logits = [net(images).float() for net in (self.predictor.first, self.predictor.second)]
        probabilities = [z.softmax(1) for z in logits]
        supervised = [segmentation_loss(z[: len(image)], label, absent=self.absent) for z in logits]
        losses = {
            "loss_supervised": torch.stack(supervised).sum(),
            "loss_critics": self._critics_loss(probabilities, label),
        }
        loss = losses["loss_supervised"] + losses["loss_critics"]
        if image_u is not None:
            unlabelled = ([x[len(image) :] for x in both] for both in (logits, probabilities))
            losses["loss_unlabelled"] = self._unlabelled_loss(*unlabelled)
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

    def _unlabelled_loss(self, logits: list[torch.Tensor], probabilities: list[torch.Tensor]) -> torch.Tensor:
        """The networks' loss, out of the logits of both [B_u, C, *spatial] and their softmax."""
        # By the running statistics: those of predictions alone would shift them to where labels are.
        self.critics.eval()
        verdicts = []
        for critic, u in zip(self.critics, probabilities, strict=True):
            constant = {name: p.detach() for name, p in critic.named_parameters()}
            verdicts.append(functional_call(critic, constant, (u,)).float())
        self.critics.train(self.training)
        losses = []
        for own, other, verdict, judged in zip(logits, probabilities[::-1], verdicts, verdicts[::-1], strict=True):
            believed = 1.0 + (judged.detach().sigmoid() > self.threshold).float()
            cross = -(other.detach() * own.log_softmax(1)).sum(1)
            losses.append((believed * cross).mean() + self.adversarial_weight * _is(verdict, 1.0))
        return 0.5 * torch.stack(losses).sum()

    def _critics_loss(self, probabilities: list[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """The critics' loss, out of both networks' softmax [B_l + B_u, C, *spatial] and the label [B_l, *spatial]."""
        true = one_hot(label, self.predictor.num_classes + 1)
        losses = []
        for critic, u in zip(self.critics, probabilities, strict=True):
            # In one pass, so that the critic's normalisation does not tell labels from predictions.
            verdict = cast(torch.Tensor, critic(torch.cat([true, u.detach()]))).float()
            losses.append(0.5 * (_is(verdict[: len(label)], 1.0) + _is(verdict[len(label) :], 0.0)))
        return torch.stack(losses).sum()


def _is(verdict: torch.Tensor, value: float) -> torch.Tensor:
    """Binary cross-entropy of a critic's logits against being a label (1) or a prediction (0)."""
    return functional.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, value))
