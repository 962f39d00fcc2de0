"""Named variants of a method: its options under a name of their own, such as the ablations of DCA."""

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
    # DCA's parts, which its ablation adds one by one: three experts; + label-split; + DFAM, which is DCA.
    "dca_no_split": Variant("dca", {"label_split": False}, {"stitching": "mean", "dfam": "none"}),
    "dca_no_dfam": Variant("dca", network_options={"dfam": "none"}),
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
