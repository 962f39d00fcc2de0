"""SKCDF: a decoder for labelled and one for unlabelled images, with features that complement each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import nn

from ..losses import segmentation_loss
from ..networks import AttentionNet, Decoder, move_towards
from ..networks.blocks import crop_to, pad_to_multiple
from .base import SemiSupervised
from .parts.class_balance import keep_at_random, labelled_shares, rarest_rates
from .parts.pseudo_labels import hard_labels


class SKCDF(SemiSupervised):
    """Semantic knowledge complementarity based decoupling ("Leveraging Semantic Knowledge Complementarity based
    Decoupling Framework for Semi-supervised Class-imbalanced Medical Image Segmentation", CVPR 2025).

    Two decoders share an encoder: l learns from labels, u from what l says of unlabelled images. Each has a main and a
    balanced head, whose logits are m and b. At the deepest map the labelled images attend to all unlabelled ones, and
    in l the unlabelled ones to all labelled ones; in u, as in the prediction, every image attends to itself.

        L = L_seg(m_l(x_l), y) + L_seg(k b_l(x_l), k y)
            + weight * ramp(t) * [L_seg(m_u(x_u), argmax m_l(x_u)) + L_seg(k b_u(x_u), k argmax b_l(x_u))]

    The mask k is 1 for a voxel of class c at the rate q_c = n_min / n_c of the labelled set, or in u at the rate
    1 - t (1 - q_c) that comes down to it. Elsewhere k is 0: the voxel gives no gradient, but counts in the means. After
    every step each main head moves towards the balanced one, and then u with its heads towards l.

    u predicts, and is the network's own decoder; l and the balanced heads are needed only in training. They start as
    copies of it, since an average of weights that begin apart means nothing.

    Args:
        predictor: the AttentionNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of both moving averages.
    """

    network = AttentionNet
    published_lr: ClassVar[dict[int, float]] = {2: 0.01, 3: 0.3}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (3.0, 30.0),
        "ramp_length": (0.4,),
        "decay": (0.98, 0.995),
    }

    def __init__(
        self,
        predictor: AttentionNet,
        unsup_weight: float = 10.0,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        decay: float = 0.99,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        self.predictor: AttentionNet = predictor
        self.absent, self.decay = absent, decay
        self.labelled_decoder: Decoder = deepcopy(predictor.decoder)
        self.labelled_balanced, self.balanced = deepcopy(predictor.decoder.out), deepcopy(predictor.decoder.out)
        self.rates: torch.Tensor
        self.register_buffer("rates", torch.ones(predictor.num_classes + 1))

    def prepare(self, label_files: Sequence[str], class_names: Mapping[int, str] | None = None) -> None:
        """See `Method.prepare`: count the classes of the labelled set."""
        self.rates.copy_(rarest_rates(labelled_shares(label_files, self.predictor.num_classes)))

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        net, labelled = self.predictor, len(image)
        images = image if image_u is None else torch.cat([image, image_u])
        size = list(images.shape)
        features = net.encoder(pad_to_multiple(images, net.divisor))
        if image_u is None:
            joint = [*features[:-1], net.attend(features[-1])]
            with torch.no_grad():  # u only follows l then: its normalisation has to see images all the same
                net.decoder.maps(joint)
        else:
            joint = self._complement([f[:labelled] for f in features], [f[labelled:].detach() for f in features])
        logits = _both_heads(self.labelled_decoder, self.labelled_balanced, joint, size)
        losses = {"loss_supervised": self._loss([z[:labelled] for z in logits], [label, label], self.rates)}
        loss = losses["loss_supervised"]
        if image_u is not None:
            pseudo = [hard_labels(z[labelled:]) for z in logits]
            *skips, deepest = [f[labelled:] for f in features]
            own = _both_heads(net.decoder, self.balanced, [*skips, net.attend(deepest)], size)
            losses["loss_unlabelled"] = self._loss(own, pseudo, 1.0 - progress * (1.0 - self.rates))
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

    def _complement(self, maps: list[torch.Tensor], maps_u: list[torch.Tensor]) -> list[torch.Tensor]:
        """The encoder's maps of all images, labelled ones first; at the deepest, each has attended to the other kind.

        The unlabelled ones are constants, in both stages of the attention.
        """
        x, u = maps[-1], maps_u[-1]
        for stage in self.predictor.attention:
            # Not under no_grad: autocast would keep the weights that it cast there, cut off from their gradients.
            x, u = stage(x, u), stage(u, x).detach()
        return [torch.cat(both) for both in zip([*maps[:-1], x], [*maps_u[:-1], u], strict=True)]

    def _loss(self, logits: list[torch.Tensor], targets: list[torch.Tensor], rates: torch.Tensor) -> torch.Tensor:
        """L_seg of the main and balanced logits [B, C, *spatial] against [B, *spatial] each, a scalar."""
        main, balanced = logits
        kept = keep_at_random(rates, targets[1])
        return segmentation_loss(main, targets[0], absent=self.absent) + segmentation_loss(
            balanced * kept.unsqueeze(1), targets[1] * kept, absent=self.absent
        )

    @torch.no_grad()
    def after_step(self, progress: torch.Tensor | float) -> None:
        """See `Method.after_step`."""
        net = self.predictor
        self._follow(self.labelled_decoder.out, self.labelled_balanced)
        self._follow(net.decoder.out, self.balanced)
        self._follow(net.decoder, self.labelled_decoder)
        self._follow(self.balanced, self.labelled_balanced)

    def _follow(self, slow: nn.Module, fast: nn.Module) -> None:
        move_towards(slow.parameters(), fast.parameters(), 1.0 - self.decay)


def _both_heads(
    decoder: Decoder, balanced: nn.Module, features: list[torch.Tensor], size: list[int]
) -> list[torch.Tensor]:
    """The logits of a decoder's main and balanced head, [B, C, *spatial] each, cropped to an image's `size`."""
    last = decoder.maps(features)[-1]
    return [crop_to(head(last), size) for head in (decoder.out, balanced)]
