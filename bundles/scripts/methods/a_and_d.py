"""A&D: three decoders on one encoder, of which the one that predicts learns without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from monai.networks.layers import gaussian_1d, separable_filtering
from torch.nn import functional

from ..losses import segmentation_loss
from ..networks import Decoder, LabelDiffusion, SegmentationNet, move_towards
from ..networks.blocks import crop_to, pad_to_multiple
from ..settings import expect_at_least
from .base import SemiSupervised
from .parts.difficulty import DifficultyTracker
from .parts.pseudo_labels import hard_labels


class AAndD(SemiSupervised):
    """Aggregating and decoupling ("Towards Generic Semi-Supervised Framework for Volumetric Medical Image
    Segmentation", NeurIPS 2023).

    Three decoders share an encoder: xi denoises label maps (see `LabelDiffusion`), psi weighs the classes by their
    difficulty w, which it learns from xi's Dice (see `DifficultyTracker`), and theta, the student, predicts. With a
    label map y_t in noise,

        L = L_seg(xi(x_l, y_t, t), y) + L_seg(psi(x_l), y; w) + weight * ramp(t) * L_seg(theta(x_u), pseudo-label),
        pseudo-label = argmax(smooth(gumbel_softmax(DDIM of xi)) + softmax(psi(x_u)))

    theta sees no label. Instead, after every step, theta <- decay * theta + (1 - decay) * (xi + psi) / 2. Without
    unlabelled images theta learns from the labels instead, by L_seg(theta(x_l), y).

    The three start alike, so that the channels correspond whose weights are averaged.

    Args:
        predictor: the encoder and theta.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of theta, in the average.
        timesteps: of the diffusion.
        ddim_steps: of these that are taken to make a pseudo-label.
        temperature: of the Gumbel softmax.
        smoothing: standard deviation in voxels of the Gaussian filter, which is cut off there: 1 takes 3 voxels.
        window: batches over which the rise and fall of a class's Dice are averaged.
        power: exponent of fall over rise in the difficulty.

    Raises:
        UserError: no DDIM step, or more than there are.
    """

    network = SegmentationNet
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (3.0, 30.0),
        "ramp_length": (0.4,),
        "decay": (0.98,),
        "power": (0.1, 0.5),
    }

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 10.0,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        decay: float = 0.99,
        timesteps: int = 1000,
        ddim_steps: int = 10,
        temperature: float = 1.0,
        smoothing: float = 1.0,
        window: int = 50,
        power: float = 0.2,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        expect_at_least("method a_and_d, ddim_steps", ddim_steps, 1)
        expect_at_least("method a_and_d, timesteps", timesteps, ddim_steps)
        self.predictor: SegmentationNet = predictor
        self.absent, self.decay, self.temperature = absent, decay, temperature
        self.kernel: torch.Tensor
        kernel = gaussian_1d(torch.tensor(smoothing), truncated=1.0, approx="sampled", normalize=True)
        self.register_buffer("kernel", kernel, persistent=False)
        self.diffusion = LabelDiffusion(predictor, timesteps, ddim_steps)
        self.weighted = deepcopy(predictor.decoder)
        self.difficulty = DifficultyTracker(predictor.num_classes, window, power, normalise=False)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        net = self.predictor
        denoised = self.diffusion(net.encoder, image, *self.diffusion.add_noise(label))
        self.difficulty.update(denoised, label)
        weight = self.difficulty.weights()
        features = self._features(image)
        losses = {
            "loss_denoising": segmentation_loss(denoised, label, absent=self.absent),
            "loss_weighted": segmentation_loss(
                _logits(self.weighted, features, image), label, absent=self.absent, weight=weight
            ),
        }
        loss = losses["loss_denoising"] + losses["loss_weighted"]
        if image_u is None:
            losses["loss_student"] = segmentation_loss(_logits(net.decoder, features, image), label, absent=self.absent)
            loss = loss + losses["loss_student"]
        else:
            features = self._features(image_u)
            pseudo = self._label(image_u, features)
            logits = _logits(net.decoder, features, image_u)
            losses["loss_unlabelled"] = segmentation_loss(logits, pseudo, absent=self.absent)
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

    @torch.no_grad()
    def after_step(self, progress: torch.Tensor | float) -> None:
        """See `Method.after_step`: aggregate the decoders."""
        decoders = (self.predictor.decoder, self.diffusion.decoder, self.weighted)
        theta, xi, psi = (decoder.parameters() for decoder in decoders)
        move_towards(theta, ((x + p) / 2.0 for x, p in zip(xi, psi, strict=True)), 1.0 - self.decay)

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's maps of images [B, C_in, *spatial], padded to what the network needs."""
        features: list[torch.Tensor] = self.predictor.encoder(pad_to_multiple(image, self.predictor.divisor))
        return features

    @torch.no_grad()
    def _label(self, image_u: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        """Pseudo-labels [B, *spatial] of images [B, C_in, *spatial] and their features."""
        sampled = self.diffusion.sample(self.predictor.encoder, image_u)
        drawn = functional.gumbel_softmax(sampled, self.temperature, dim=1)
        drawn = separable_filtering(drawn, [self.kernel] * (image_u.dim() - 2), mode="replicate")
        return hard_labels(drawn + _logits(self.weighted, features, image_u).float().softmax(1))


def _logits(decoder: Decoder, features: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """A decoder's logits [B, K + 1, *spatial] of the features of images [B, C_in, *spatial]."""
    return crop_to(decoder(features)[-1], list(image.shape))
