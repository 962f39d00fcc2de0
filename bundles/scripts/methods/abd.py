"""ABD: the patch that a student is least sure of makes room for one that the other student is sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..networks import TwinNet
from ..settings import expect_at_least
from .parts.copy_paste import cross_dice
from .parts.copy_paste_twins import CopyPasteTwins
from .parts.cubes import from_cubes, to_cubes


class ABD(CopyPasteTwins):
    """Adaptive bidirectional displacement ("Adaptive Bidirectional Displacement for Semi-Supervised Medical Image
    Segmentation", CVPR 2024), the form that builds on BCP.

    L = L_pair + cross_weight * sum over both students i D(s_i(x'), argmax of the other student on x')

    with L_pair of `CopyPasteTwins` and the displaced images x' of `displace`, which both students see.

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
        grid: patches per axis.
        candidates: sure patches of the other view that may be taken; 1 takes the surest.
        similar: rate of taking the candidate that is most like the patch in its place, instead of the surest.

    Raises:
        UserError: fewer than two patches per axis, no candidate.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**CopyPasteTwins.tuning, "jitter": (0.4,)}

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
        grid: int = 4,
        candidates: int = 4,
        similar: float = 0.5,
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
        expect_at_least("method abd, grid", grid, 2)
        expect_at_least("method abd, candidates", candidates, 1)
        self.grid, self.candidates, self.similar = grid, candidates, similar

    def learn_together(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `CopyPasteTwins.learn_together`."""
        views = self.views(image, label, image_u, self.ask(image_u))
        images = [view.image for view in views]
        logits = self.logits_of(images)
        losses = self.pair_losses(views, logits)
        by_likeness = torch.rand(2, len(logits[0]), device=image.device) < self.similar
        displaced = displace(images, logits, self.grid, self.candidates, by_likeness)
        losses["loss_displaced"] = cross_dice(self.logits_of([displaced, displaced]), self.absent)
        learnt_from_labels = losses["loss_supervised"] + self.ramped_weight(progress) * losses["loss_unlabelled"]
        cross = losses["loss_cross"] + losses["loss_displaced"]
        return {"loss": learnt_from_labels + self.cross_weight * cross, **losses}


@torch.no_grad()
def displace(
    images: Sequence[torch.Tensor],
    logits: Sequence[torch.Tensor],
    grid: int,
    candidates: int,
    by_likeness: torch.Tensor,
) -> torch.Tensor:
    """Both views with the patch of each image that is least sure replaced by a sure one of the other view (ABD-R).

    A patch is as sure as the largest probabilities of its voxels are on average. What is left over where a size is no
    multiple of the grid belongs to no patch.

    Args:
        images: of the two views [B, C_in, *spatial].
        logits: of the student of each view, on its view [B, C, *spatial].
        grid: patches per axis.
        candidates: how many of the surest patches may be taken.
        by_likeness: [2, B], per view and image, whether to take the candidate whose mean logits have the softmax q with
            the smallest KL(p || q), p being that of the patch in its place; else the surest.

    Returns:
        The changed images of both views, [2 B, C_in, *spatial].
    """
    patches = [to_cubes(_divisible(x, grid), grid) for x in images]
    scores = [to_cubes(_divisible(z.float(), grid), grid).flatten(3) for z in logits]
    sureness = [z.softmax(2).amax(2).mean(2) for z in scores]  # [B, grid^d]
    mean = [z.mean(3).log_softmax(2) for z in scores]  # [B, grid^d, C]
    own = torch.arange(len(images[0]), device=images[0].device)
    displaced = []
    for here, there in ((0, 1), (1, 0)):
        least = sureness[here].argmin(1)
        sure = sureness[there].topk(min(candidates, sureness[there].shape[1])).indices
        p, q = mean[here][own, least].unsqueeze(1), mean[there][own.unsqueeze(1), sure]
        like = sure.gather(1, (p.exp() * (p - q)).sum(2).argmin(1, keepdim=True)).squeeze(1)
        taken = torch.where(by_likeness[here], like, sure[:, 0])
        changed = patches[here].clone()
        changed[own, least] = patches[there][own, taken]
        image = images[here].clone()
        _divisible(image, grid).copy_(from_cubes(changed, grid))
        displaced.append(image)
    return torch.cat(displaced)


def _divisible(x: torch.Tensor, grid: int) -> torch.Tensor:
    """The first voxels of [B, C, *spatial], as a view, as many as the grid divides."""
    for axis in range(2, x.dim()):
        x = x.narrow(axis, 0, x.shape[axis] // grid * grid)
    return x
