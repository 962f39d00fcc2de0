"""DCANet: a shared encoder, asymmetric expert decoders, and the decoder that aggregates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from monai.networks.layers.factories import Norm
from torch import nn
from torch.nn import functional

from ..errors import UserError
from ..group_names import GROUP_NAMES, MOST_GROUPS
from ..settings import expect_at_least, expect_one_of
from .blocks import LINEAR_MODE, crop_to, pad_to_multiple
from .convolutions import convolve, memory_format
from .encoder_decoder import (
    DIVISOR,
    LEVELS,
    Decoder,
    Encoder,
    coarse_logits,
)
from .experts import make_decoders
from .stitching import LINEAR_RULES, STITCHING_RULES, stitch, stitched_convolution

PREDICTIONS = ("aggregated", "stitched", "mean")


def _channels(out: Any, maps: torch.Tensor, channels: Sequence[int] | None) -> torch.Tensor:
    """The output convolution of maps [B, w, *spatial], of some channels only."""
    if channels is None:
        return out(maps)
    weight, bias = (torch.stack([values[c] for c in channels]) for values in (out.weight, out.bias))
    return convolve(maps, weight, bias)


def _first(maps: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` of [B, C, *spatial]; unlike that of a slice, the gradient keeps the layout in memory."""
    return functional.pad(maps, [0, 0] * (maps.dim() - 1) + [0, count - len(maps)]) if count < len(maps) else maps


def mean_logits(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Two predictions' logits [B, C, *spatial] to logits whose softmax is the mean of theirs."""
    return (0.5 * (first.softmax(1) + second.softmax(1))).clamp_min(1e-8).log()


class DCANet(nn.Module):
    """Divide, Conquer, and Aggregate: the network of the method (CVPR 2026).

    Args:
        style: "vnet" or "unet".
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: foreground classes K; all logits have C = K + 1 channels.
        width: channels of the finest level; every level doubles them.
        norm: MONAI name of the normalisation.
        dropout: probability at every level; None takes the style's own (U-Net: 0.05 to 0.5, V-Net: none).
        prediction: what `forward` returns: "aggregated" (the decoder D_A), "stitched" (the experts), or "mean" (of both
            softmaxes). The parameters do not depend on it: one checkpoint gives all three.
        stitching: rule that makes the experts comparable: "log_odds", "logits", "probability" or "mean" (`stitch`).
        dfam: "raw" or "projected" features in the DFAM; "none" leaves the DFAM out.
        dfam_levels: how many of D_A's four levels have a DFAM, the deepest first.
        experts: the published "asymmetric" decoders; for the ablations "symmetric" (all like the medium one),
            "depth" (only the number of convolutions differs) or "dilation" (only the dilation does).
        expert_levels: how many of the four levels the experts have, the deepest first. With three they see and label
            half of the resolution, and only D_A all of it.
        expert_channels: "all" classes compete in every expert's softmax; with "own" the classes that an expert does not
            own have no probability in it.
        deep_supervision: all decoders have outputs at coarser levels as well, for the training.
        residual: D_A's logits are added to the stitched ones, through which no gradient flows, not standing alone:
            it starts from what the experts see and learns what they get wrong.

    There are three experts, or as many as classes where these are fewer; `set_groups` makes as many as there are
    groups. The owner of each class is a buffer, so that a checkpoint carries its groups: a network that loads it has
    its number of experts.

    Example:
        >>> network = DCANet("unet", spatial_dims=2, in_channels=1, num_classes=4, width=4)
        >>> network.set_groups([[1], [4, 2], [3]])  # class ids, the head first
        >>> network.owner
        tensor([0, 1, 2, 1])
        >>> tuple(network(torch.rand(2, 1, 30, 50)).shape)
        (2, 5, 30, 50)
    """

    def __init__(
        self,
        style: str,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        width: int = 16,
        norm: str = Norm.BATCH,
        dropout: float | None = None,
        prediction: str = "aggregated",
        stitching: str = "log_odds",
        dfam: str = "raw",
        dfam_levels: int = LEVELS - 1,
        experts: str = "asymmetric",
        expert_levels: int = LEVELS - 1,
        expert_channels: str = "all",
        residual: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        expect_one_of("prediction", prediction, PREDICTIONS)
        expect_one_of("stitching", stitching, STITCHING_RULES)
        expect_one_of("dfam", dfam, ("raw", "projected", "none"))
        expect_one_of("experts", experts, ("asymmetric", "symmetric", "depth", "dilation"))
        expect_one_of("expert_channels", expert_channels, ("all", "own"))
        if num_classes < 1:
            raise UserError(f"num_classes: expected at least one foreground class, found {num_classes}")
        expect_at_least("dfam_levels", dfam_levels, 0)
        if expert_levels not in range(1, LEVELS):
            raise UserError(f"expert_levels: expected 1 to {LEVELS - 1}, found {expert_levels!r}")
        self.prediction, self.stitching = prediction, stitching
        self.own_channels, self.residual = expert_channels == "own", residual
        self.linear = stitching in LINEAR_RULES
        self.divisor, self.decoder_levels = DIVISOR, expert_levels
        self.mode, self.coarser = LINEAR_MODE[spatial_dims], 2.0 ** (LEVELS - 1 - expert_levels)
        self.encoder = Encoder(style, spatial_dims, in_channels, width, norm, dropout)
        self.make_decoders = partial(
            make_decoders,
            style,
            spatial_dims,
            num_classes + 1,
            width,
            norm,
            deep_supervision,
            experts,
            expert_levels,
            dfam,
            dfam_levels,
        )
        count = min(3, num_classes)
        self._add_decoders(count)
        self.owner: torch.Tensor
        self.register_buffer("owner", torch.arange(num_classes).clamp(max=count - 1))
        self.groups = [[c + 1 for c in range(num_classes) if min(c, count - 1) == i] for i in range(count)]

    def _add_decoders(self, count: int) -> None:
        """Make this many experts and a D_A that joins them, with new weights, in the place of those that were."""
        experts, aggregation = self.make_decoders(GROUP_NAMES[count])
        self.experts = cast(Sequence[Decoder], nn.ModuleList(experts))  # for the type checker: what is in the list
        self.aggregation = aggregation

    @torch.jit.unused
    def set_groups(self, groups: Sequence[Sequence[int]]) -> None:
        """Give each expert its classes: `groups` holds class ids (1..K), one group per expert, head first.

        Where their number is not that of the experts, new experts and a new D_A are made.

        Raises:
            UserError: no groups, more than five, or groups that are no partition of 1..K.
        """
        ids = sorted(c for group in groups for c in group)
        if len(groups) not in GROUP_NAMES or not all(groups) or ids != list(range(1, len(self.owner) + 1)):
            raise UserError(
                f"groups: expected one to {MOST_GROUPS} groups that hold the classes 1..{len(self.owner)} once each, "
                f"found {[list(g) for g in groups]}"
            )
        if len(groups) != len(self.experts):
            self._add_decoders(len(groups))
            new: Any = nn.ModuleList([cast(nn.ModuleList, self.experts), self.aggregation]).train(self.training)
            new.to(self.owner.device, memory_format=memory_format(self.encoder))
        self.groups = [sorted(group) for group in groups]
        for expert, group in enumerate(groups):
            for c in group:
                self.owner[c - 1] = expert

    @torch.jit.unused
    def fit_to(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Take the groups, and so the number of experts, of a state dict, before its weights are loaded.

        Raises:
            UserError: owners of the classes that no groups have.
        """
        owner = state.get(prefix + "owner")
        if isinstance(owner, torch.Tensor) and owner.shape == self.owner.shape:  # else loading tells what is wrong
            owners = owner.tolist()
            experts = range(len(set(owners)))
            self.set_groups([[c for c, o in enumerate(owners, 1) if o == expert] for expert in experts])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        self.fit_to(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def decode_experts(self, features: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        """The encoder's maps to those of all experts, per level (deepest first)."""
        maps: list[list[torch.Tensor]] = [[] for _ in range(self.decoder_levels)]
        for expert in self.experts:
            for level, decoded in enumerate(expert.maps(features)):
                maps[level].append(decoded)
        return maps

    def expert_logits(self, finest: list[torch.Tensor]) -> torch.Tensor:
        """The experts' finest maps, the last of `decode_experts`, to their logits [E, B, C, *spatial]."""
        logits: list[torch.Tensor] = []
        for i, expert in enumerate(self.experts):
            logits.append(expert.out(finest[i]))
        stacked = torch.stack(logits)
        if self.own_channels:
            foreign = torch.arange(len(logits), device=self.owner.device).unsqueeze(1) != self.owner.unsqueeze(0)
            foreign = torch.cat([torch.zeros_like(foreign[:, :1]), foreign], dim=1)  # background is everyone's
            shape = [foreign.shape[0], 1, foreign.shape[1]] + [1] * (stacked.dim() - 3)
            stacked = stacked.masked_fill(foreign.view(shape), -1e4)
        return stacked

    def stitched(self, finest: list[torch.Tensor]) -> torch.Tensor:
        """The experts' finest maps to their stitched logits [B, C, *spatial], as fine as D_A's."""
        logits = self._stitched(finest)
        if self.coarser == 1.0:
            return logits
        return functional.interpolate(logits, scale_factor=self.coarser, mode=self.mode, align_corners=False)

    def _stitched(self, finest: list[torch.Tensor]) -> torch.Tensor:
        """The same, as fine as the experts' maps."""
        if not self.linear:
            return stitch(self.expert_logits(finest), self.owner, self.stitching)
        # Stitching and the experts' last convolutions are linear: one convolution, and no logits of single experts.
        weights: list[torch.Tensor] = []
        biases: list[torch.Tensor] = []
        for expert in self.experts:
            weight, bias = expert.out.weight, expert.out.bias
            assert bias is not None  # for TorchScript, where a convolution's bias is optional
            weights.append(weight)
            biases.append(bias)
        return stitched_convolution(finest, weights, biases, self.owner, self.stitching)

    def aggregate(
        self, features: list[torch.Tensor], maps: list[list[torch.Tensor]], stitched: torch.Tensor | None = None
    ) -> torch.Tensor:
        """D_A on the encoder's maps and those of `decode_experts`: logits [B, C, *spatial].

        A residual D_A adds them to the `stitched` logits, which it makes where they are not given.
        """
        return self._on_stitched(self.aggregation(features, maps), maps, stitched)

    def _on_stitched(
        self, logits: torch.Tensor, maps: list[list[torch.Tensor]], stitched: torch.Tensor | None = None
    ) -> torch.Tensor:
        """D_A's logits as `aggregate` returns them."""
        if self.residual:
            base = self.stitched(maps[-1]) if stitched is None else stitched
            logits = logits + base.detach()
        return logits

    @torch.jit.unused
    def expert_outputs(self, maps: list[list[torch.Tensor]], count: int) -> list[list[torch.Tensor]]:
        """The maps of `decode_experts` to the logits of each expert: its own, then half, a quarter, ... as fine.

        They are those of the first `count` images.

        They are [B, C, *spatial]. With own channels only those that the expert has are computed, [B, 1 + G, *spatial]:
        background, then its group's classes by their ids. A softmax over them equals one over `expert_logits`.
        """
        outputs = []
        for i, expert in enumerate(self.experts):
            own = [0, *self.groups[i]] if self.own_channels else None
            levels = zip([expert.out, *expert.coarse_outs], reversed(maps), strict=False)
            outputs.append([_channels(out, _first(level[i], count), own) for out, level in levels])
        return outputs

    @torch.jit.unused
    def aggregated_outputs(self, features: list[torch.Tensor], maps: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        """What `aggregate` returns, then D_A's logits of half, a quarter, ... of the size."""
        own = self.aggregation.maps(features, maps)
        logits = self._on_stitched(self.aggregation.out(own[-1]), maps)
        return [logits, *coarse_logits(self.aggregation.coarse_outs, own)]

    def decode(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        """Images [B, C_in, *spatial] to the encoder's maps (finest first) and the experts', per level (deepest first).

        All are of the images padded to sizes that every level can halve: crop what is made of them (`crop_to`).
        """
        features = self.encoder(pad_to_multiple(x, self.divisor))
        return features, self.decode_experts(features)

    def predictions(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, C_in, *spatial] to the logits [B, C, *spatial] of D_A and of the stitched experts, in one pass."""
        features, maps = self.decode(x)
        stitched = self.stitched(maps[-1])
        aggregated = self.aggregate(features, maps, stitched)
        return crop_to(aggregated, list(x.shape)), crop_to(stitched, list(x.shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C_in, *spatial] of any size to logits [B, K + 1, *spatial] of the chosen prediction."""
        if self.prediction == "mean":
            aggregated, stitched = self.predictions(x)
            return mean_logits(aggregated, stitched)
        features, maps = self.decode(x)
        logits = self.stitched(maps[-1]) if self.prediction == "stitched" else self.aggregate(features, maps)
        return crop_to(logits, list(x.shape))
