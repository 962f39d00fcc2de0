"""DCA: Divide, Conquer, and Aggregate (CVPR 2026)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch.nn import functional

from ..class_sizes import class_sizes
from ..errors import UserError
from ..grouping import Grouping, group_classes
from ..losses import segmentation_loss
from ..networks import DCANet, MovingAverage
from ..networks.blocks import crop_to
from ..settings import expect_one_of
from .base import SemiSupervised
from .mean_teacher_cp import MeanTeacherCopyPaste
from .parts.deep_supervision import at_all_levels
from .parts.mixing import paste, paste_either_way, random_boxes
from .parts.pseudo_labels import hard_labels
from .parts.strong_views import change_intensities

logger = logging.getLogger(__name__)


class DCA(SemiSupervised):
    """One expert decoder per size group, trained on its own classes, and a decoder that aggregates them.

    L = sum over experts L_seg(expert(x_l), y_l of its group)  [+ L_seg(D_A(x_l), y_l)]
        + weight * ramp(t) * L_seg(D_A(x_u), pseudo-label of x_u)

    Gradients of both aggregation terms stop at the experts' features, so that aggregation cannot undo what each expert
    has specialised in.

    Args:
        predictor: the DCANet.
        grouping: rule that divides the classes by their size in the labelled set: "top2", "gaps", "sequential",
            "uniform", "threshold" or "manual" (`grouping.group_classes`).
        manual_groups: class ids per group for the rule "manual".
        size_unit: "mm3" measures the classes as the network sees them, on a grid of one spacing; "voxels" counts the
            files' own.
        label_split: map the classes outside an expert's group to background; False trains every expert on all classes.
        expert_dice: "own" counts an expert's own classes and background in its Dice, "all" every class.
        supervise_aggregation: train D_A on the labelled images too.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        unsup_gradient: how far the unlabelled term reaches: "encoder" through D_A into the shared encoder,
            "aggregation" into D_A only.
        unsup_experts: add the experts' losses on the pseudo-labels, each of its own group, to the unlabelled term.
        pseudo_label: "stitched" experts, or "mean" of their softmax and D_A's.
        teacher_decay: above 0, an exponential moving average of the network with this decay makes the pseudo-labels.
        mix: what D_A is shown as an unlabelled image. "none": the image. "cutmix": with a box out of another unlabelled
            image. "copy_paste": with a box out of a labelled image, or outside of the box, by turns of chance. The
            target is mixed alike, from the pseudo-labels of whole images and the true labels.
        jitter: strength of `change_intensities` on all that the network is shown, but not its teacher; 0: none.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        expert_absent: the same for the experts; None: as `absent`.
        teacher_statistics: what the teacher normalises with: "batch", those of the unlabelled images; "joint", of the
            labelled ones as well; "running", the averages that the network remembers.
    """

    network = DCANet
    published_lr: ClassVar[dict[int, float]] = {}  # the bundles' published preset has its paper's
    published: ClassVar[dict[str, Any]] = {
        "supervise_aggregation": False,
        "unsup_weight": 10.0,
        "ramp": "sigmoid",
        "ramp_length": 1.0,
        "unsup_gradient": "encoder",
        "pseudo_label": "stitched",
        "teacher_decay": 0.0,
        "mix": "none",
    }
    published_network: ClassVar[dict[str, Any]] = {"stitching": "logits"}
    recommended: ClassVar[dict[str, Any]] = {"unsup_experts": True}
    recommended_network: ClassVar[dict[str, Any]] = {"expert_channels": "own", "expert_levels": 3}
    # MR has no scale of intensities. CT has one, and gains nothing from a change of it (docs/explanation/method.md).
    recommended_2d: ClassVar[dict[str, Any]] = {"jitter": 0.4}
    recommended_network_3d: ClassVar[dict[str, Any]] = {"residual": True, "dfam": "none"}
    # That of its control; of the strengths of the jitter, the recommended one is no trial of its own.
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**MeanTeacherCopyPaste.tuning, "jitter": (0.0, 0.2, 0.4)}

    def __init__(
        self,
        predictor: DCANet,
        grouping: str = "top2",
        manual_groups: Sequence[Sequence[int]] | None = None,
        size_unit: str = "mm3",
        label_split: bool = True,
        expert_dice: str = "own",
        supervise_aggregation: bool = True,
        unsup_weight: float = 1.0,
        ramp: str = "sigmoid",
        ramp_length: float = 0.4,
        unsup_gradient: str = "encoder",
        unsup_experts: bool = False,
        pseudo_label: str = "mean",
        teacher_decay: float = 0.99,
        mix: str = "copy_paste",
        jitter: float = 0.0,
        absent: str = "skip",
        expert_absent: str | None = None,
        teacher_statistics: str = "batch",
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        for name, value, allowed in (
            ("expert_dice", expert_dice, ("own", "all")),
            ("unsup_gradient", unsup_gradient, ("encoder", "aggregation")),
            ("pseudo_label", pseudo_label, ("stitched", "mean")),
            ("mix", mix, ("none", "cutmix", "copy_paste")),
            ("teacher_statistics", teacher_statistics, ("batch", "joint", "running")),
        ):
            expect_one_of(f"method dca, {name}", value, allowed)
        if predictor.own_channels and not label_split:
            raise UserError("method dca: expected label_split with expert_channels 'own', found false; set either")
        if not label_split and predictor.stitching != "mean":
            raise UserError(
                f"method dca: expected stitching 'mean' of experts without label_split, found {predictor.stitching!r}; "
                "set network_options::stitching mean"
            )
        self.predictor: DCANet = predictor
        self.grouping, self.manual_groups, self.size_unit = grouping, manual_groups, size_unit
        self.label_split, self.expert_dice = label_split, expert_dice
        self.supervise_aggregation = supervise_aggregation
        self.unsup_gradient, self.unsup_experts = unsup_gradient, unsup_experts
        self.pseudo_label = pseudo_label
        self.mix, self.jitter = mix, jitter
        self.absent, self.expert_absent = absent, expert_absent or absent
        self.teacher_statistics = teacher_statistics
        self.groups: Grouping | None = None
        self.teacher = MovingAverage(predictor, teacher_decay) if teacher_decay > 0 else None

    def prepare(self, label_files: Sequence[str], class_names: Mapping[int, str] | None = None) -> None:
        """Divide: group the classes by their size in the labelled set, and give each expert its group."""
        sizes = class_sizes(label_files, len(self.predictor.owner), self.size_unit).tolist()
        self.groups = group_classes(sizes, self.grouping, self.manual_groups)
        logger.info(self.groups.describe(class_names))
        self.predictor.set_groups(self.groups.groups)
        if self.teacher is not None:  # of as many experts, and with groups to label by in the first step
            self.teacher = MovingAverage(self.predictor, self.teacher.decay)

    def describe(self) -> dict[str, Any]:
        """See `Method.describe`: the groups of classes, and the sizes and gaps that made them."""
        return {} if self.groups is None else {"grouping": asdict(self.groups)}

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        net, labelled = self.predictor, len(image)
        target = None
        if image_u is not None and (self.teacher is not None or self.mix != "none"):
            target = self._label_whole(image_u, image)
            image_u, target = self._mixed(image_u, target, image, label)
        images = image if image_u is None else torch.cat([image, image_u])
        if self.jitter > 0:
            images = change_intensities(images, self.jitter)
        features, maps = net.decode(images)
        taught = len(images) if self.unsup_experts else labelled
        experts = net.expert_outputs(maps, taught)
        losses = {"loss_experts": self._expert_loss([[z[:labelled] for z in outputs] for outputs in experts], label)}
        if self.unsup_gradient == "aggregation":
            # Without a labelled term all of D_A's input stops: batch statistics would carry L_un to the labelled part.
            kept = labelled if self.supervise_aggregation else 0
            features = [torch.cat([f[:kept], f[kept:].detach()]) for f in features]
        maps = [[m.detach() for m in level] for level in maps]
        aggregated = net.aggregated_outputs(features, maps)
        loss = losses["loss_experts"]
        if self.supervise_aggregation:
            losses["loss_aggregation"] = at_all_levels(self._loss, [z[:labelled] for z in aggregated], label)
            loss = loss + losses["loss_aggregation"]
        if image_u is not None:
            if target is None:
                stitched = net.stitched([m[labelled:] for m in maps[-1]])
                shape = list(image_u.shape)
                target = self._pseudo_label(crop_to(stitched, shape), crop_to(aggregated[0][labelled:], shape))
            losses["loss_unlabelled"] = at_all_levels(self._loss, [z[labelled:] for z in aggregated], target)
            if self.unsup_experts:
                losses["loss_unlabelled"] = losses["loss_unlabelled"] + self._expert_loss(
                    [[z[labelled:] for z in outputs] for outputs in experts], target
                )
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

    def _loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """D_A's L_seg."""
        return segmentation_loss(logits, target, absent=self.absent)

    def _expert_loss(self, experts: Sequence[Sequence[torch.Tensor]], label: torch.Tensor) -> torch.Tensor:
        """Sum over the experts of L_seg against the labels [B, *spatial] of their groups, of `expert_outputs`."""
        losses = []
        for expert, outputs in enumerate(experts):
            target, counted = self._of_group(label, expert)
            loss = partial(segmentation_loss, classes=counted, absent=self.expert_absent)
            losses.append(at_all_levels(loss, outputs, target, int(self.predictor.coarser)))
        return torch.stack(losses).sum()

    def _of_group(self, label: torch.Tensor, expert: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What an expert learns of the labels [B, *spatial], and the channels that count in its Dice; None: all.

        All that it does not own is background. With own channels the ids are those of its channels.
        """
        if not self.label_split:
            return label, None
        own = self.predictor.owner == expert
        ids = own.cumsum(0) if self.predictor.own_channels else torch.arange(1, len(own) + 1, device=own.device)
        target = functional.pad(ids * own, [1, 0])[label]
        every = self.predictor.own_channels or self.expert_dice == "all"
        return target, None if every else functional.pad(own, [1, 0], value=True)  # background is everyone's

    @torch.no_grad()
    def _label_whole(self, image_u: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Pseudo-labels [B, *spatial] of images that are not mixed, by the teacher if there is one.

        Like all that belongs to the method, the teacher is in training mode, as the mean teachers of the field are: its
        normalisation takes the statistics of this batch, unless `teacher_statistics` says otherwise.
        """
        net = self.predictor if self.teacher is None else cast(DCANet, self.teacher.module)
        shown = torch.cat([image, image_u]) if self.teacher_statistics == "joint" else image_u
        training = net.training
        net.train(training and self.teacher_statistics != "running")
        aggregated, stitched = net.predictions(shown)
        net.train(training)
        return self._pseudo_label(stitched[-len(image_u) :], aggregated[-len(image_u) :])

    def _mixed(
        self, image_u: torch.Tensor, target: torch.Tensor, image: torch.Tensor, label: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.mix == "none":
            return image_u, target
        if self.mix == "copy_paste":
            return paste_either_way(image_u, target, image, label)
        boxes = random_boxes(len(image_u), list(image_u.shape[2:]), image_u.device)
        return paste(image_u, image_u.roll(-1, 0), boxes), paste(target, target.roll(-1, 0), boxes)

    @torch.no_grad()
    def after_step(self, progress: torch.Tensor | float) -> None:
        """See `Method.after_step`."""
        if self.teacher is not None:
            self.teacher.update_parameters(self.predictor)

    @torch.no_grad()
    def _pseudo_label(self, stitched: torch.Tensor, aggregated: torch.Tensor) -> torch.Tensor:
        """Class ids [B, *spatial] out of logits [B, C, *spatial] for the unlabelled images."""
        probabilities = stitched.float().softmax(1)
        if self.pseudo_label == "mean":
            probabilities = probabilities + aggregated.float().softmax(1)
        return hard_labels(probabilities)
