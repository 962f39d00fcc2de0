"""Named variants of a method: its options under a name of their own, such as DCA's extension and ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A method with some of its options fixed; what the user sets explicitly still wins.

    Args:
        method: name of the method.
        options: options of the method that differ from the preset's.
        network_options: options of its network that differ from the preset's.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    network_options: Mapping[str, Any] = field(default_factory=dict)


# `python -m tools check` reads this without running it, so the options are written out as literals.
VARIANTS: dict[str, Variant] = {
    # DCA as recommended, under every preset, and more: every decoder learns from pseudo-labels, what the network sees
    # varies in brightness and contrast, and experts and D_A predict together.
    "dca_plus": Variant(
        "dca",
        {
            "supervise_aggregation": True,
            "unsup_weight": 1.0,
            "ramp_length": 0.4,
            "unsup_experts": True,
            "pseudo_label": "mean",
            "teacher_decay": 0.99,
            "mix": "copy_paste",
            "jitter": 0.4,
        },
        {"stitching": "log_odds", "prediction": "mean"},
    ),
    # The control with dca_plus's change of intensities.
    "mean_teacher_cp_jitter": Variant("mean_teacher_cp", {"jitter": 0.4}),
    # GA's ramp as released, where TAK's is that of `ga`: over 70 000 steps of a training that ends after 17 000.
    "ga_released_ramp": Variant("ga", {"ramp_length": 4.118}),
    # DCA with experts as fine as D_A, which learn from labels only, and the DFAM.
    "dca_plain": Variant(
        "dca", {"unsup_experts": False, "jitter": 0.0}, {"dfam": "raw", "expert_levels": 4, "expert_channels": "all"}
    ),
    # DCA's parts, which its ablation adds one by one: three experts; + label-split; + DFAM. For slices the last is DCA
    # itself; for volumes DCA has no DFAM.
    "dca_no_split": Variant(
        "dca", {"label_split": False}, {"stitching": "mean", "dfam": "none", "expert_channels": "all"}
    ),
    "dca_no_dfam": Variant("dca", network_options={"dfam": "none"}),
    "dca_dfam": Variant("dca", network_options={"dfam": "raw", "expert_levels": 4}),
    # The shapes of its experts.
    "dca_symmetric": Variant("dca", network_options={"experts": "symmetric"}),
    "dca_depth": Variant("dca", network_options={"experts": "depth"}),
    "dca_dilation": Variant("dca", network_options={"experts": "dilation"}),
    # The rules that divide the classes.
    "dca_uniform": Variant("dca", {"grouping": "uniform"}),
    "dca_threshold": Variant("dca", {"grouping": "threshold"}),
    "dca_sequential": Variant("dca", {"grouping": "sequential"}),
    # The rules that stitch the experts.
    "dca_logits": Variant("dca", network_options={"stitching": "logits"}),
    "dca_probability": Variant("dca", network_options={"stitching": "probability"}),
}
