"""What inference of the 3D bundles costs, in exact counts: windows and decoders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from scripts.networks.dca import PREDICTIONS, DCANet
from tools.segment.segmenter import _WithExperts


@pytest.fixture(scope="module", params=["dca_synapse", "dca_amos"])
def parser(request: pytest.FixtureRequest) -> ConfigParser:
    parser = ConfigParser()
    bundle = Path("bundles") / request.param
    parser.read_config(bundle / "configs" / "inference.json")
    parser.update({"bundle_root": str(bundle), "device": "$torch.device('cpu')"})
    return parser


def test_the_image_is_seen_in_as_few_windows_as_the_overlap_allows_by_two(parser: ConfigParser) -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        # A single one in float32 meets code of torch that is half as fast; more need more memory.
        seen.append(tuple(x.shape))
        return x

    parser.get_parsed_content("inferer")(torch.zeros(1, 1, 128, 97, 60), network)
    # 3 * 3 * 1 in steps of 32; what is smaller than a window is padded.
    assert seen == [(2, 1, 64, 64, 64)] * 4 + [(1, 1, 64, 64, 64)]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("disagreement", [False, True])
def test_every_decoder_that_the_prediction_needs_runs_once_and_no_other(prediction: str, disagreement: bool) -> None:
    network = DCANet("vnet", 3, 1, 5, width=2, prediction=prediction).eval()
    calls = Counter[str]()
    for name, module in {
        "encoder": network.encoder,
        "D_A": network.aggregation,
        **{f"expert {i}": expert.levels[-1] for i, expert in enumerate(network.experts)},
    }.items():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    whole: nn.Module = _WithExperts(network) if disagreement else network
    with torch.no_grad():
        whole(torch.zeros(1, 1, 16, 16, 16))
    needed = {"encoder", "expert 0", "expert 1", "expert 2"}
    needed |= {"D_A"} if disagreement or prediction != "stitched" else set()
    assert calls == Counter(needed)
