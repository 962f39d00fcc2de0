"""The decoders of a DCANet: an expert per group of classes, and D_A."""

from __future__ import annotations

from .aggregation import AggregationDecoder
from .encoder_decoder import Decoder

# Convolutions per level (deepest first) and dilation of each expert. 3D: as published. 2D: the published proportions
# around the U-Net's two convolutions per level. Large and small ones, which only four and five groups have, lie between
# two of these: they have the coarse levels of the one before and the fine levels of the one after.
EXPERTS = {
    "vnet": {
        "head": ((2, 2, 1, 1), 2),
        "large": ((2, 2, 2, 1), 1),
        "medium": ((3, 3, 2, 1), 1),
        "small": ((3, 3, 3, 2), 1),
        "tail": ((4, 4, 3, 2), 1),
    },
    "unet": {
        "head": ((1, 1, 1, 1), 2),
        "large": ((1, 1, 2, 2), 1),
        "medium": ((2, 2, 2, 2), 1),
        "small": ((2, 2, 3, 3), 1),
        "tail": ((3, 3, 3, 3), 1),
    },
}


def make_decoders(
    style: str,
    spatial_dims: int,
    out_channels: int,
    width: int,
    norm: str,
    deep_supervision: bool,
    experts: str,
    levels: int,
    dfam: str,
    dfam_levels: int,
    names: tuple[str, ...],
) -> tuple[list[Decoder], AggregationDecoder]:
    """The experts of these names, and a D_A that joins them; the arguments are those of a `DCANet`.

    Args:
        levels: how many of them the experts have.
        names: out of EXPERTS.
    """
    medium_convs, medium_dilation = EXPERTS[style]["medium"]
    decoders = []
    for name in names:
        convs, dilation = EXPERTS[style][name]
        decoders.append(
            Decoder(
                style,
                spatial_dims,
                out_channels,
                width,
                convs if experts in ("asymmetric", "depth") else medium_convs,
                dilation if experts in ("asymmetric", "dilation") else medium_dilation,
                norm,
                deep_supervision,
                levels,
            )
        )
    aggregation = AggregationDecoder(
        style, spatial_dims, out_channels, width, len(names), norm, dfam, min(dfam_levels, levels), deep_supervision
    )
    return decoders, aggregation
