"""What inference of the 3D bundles costs, in exact counts: windows, decoders, interpolated voxels, largest tensor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.networks.dca import PREDICTIONS, DCANet
from tools.segmenting.segmenter import _WithExperts

CLASSES = 14
THREADS = 3  # that share the places where all classes are interpolated
GRID, NATIVE = (36, 30, 28), (100, 90, 60)  # voxels of the network and of the image
SHIFT, SCALE = (
    np.array([-2.012, 1.513, 2.017]),
    np.array([0.3717, 0.3331, 0.4309]),
)  # of the image's voxels in the network's


class Largest(TorchDispatchMode):
    """The most elements of any tensor of floating-point numbers, and of any at all, that an operation gives."""

    floating, any = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                held = min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())  # if expanded
                self.any = max(self.any, held)
                self.floating = max(self.floating, held if tensor.is_floating_point() else 0)
        return out


@pytest.fixture(scope="module", params=["dca_synapse", "dca_amos"])
def parser(request: pytest.FixtureRequest) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(Path("bundles") / request.param / "configs" / "inference.json")
    parser.update({"device": "$torch.device('cpu')", "threads": THREADS})
    return parser


@pytest.fixture(scope="module")
def prediction() -> MetaTensor:
    """Probabilities of blobs [C, *GRID], some of them at the border, with the two grids in their meta data."""
    coarse = torch.randn(1, CLASSES, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, GRID, mode="trilinear")[0]
    affine = np.diag([*SCALE, 1.0])
    affine[:3, 3] = SHIFT
    meta = {"affine": np.eye(4), "original_affine": affine, "spatial_shape": np.array(NATIVE)}
    return MetaTensor((8 * smooth).softmax(0), meta=meta)


# Of the image's axes in those of the network's grid, beside their scale.
TURNS = {
    "aligned": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "axes exchanged": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    "sheared": [[1, 0.3, 0], [0, 1, -0.2], [0.1, 0, 1]],
}


@pytest.mark.parametrize("turn", TURNS)
def test_labels_are_those_of_all_classes_interpolated_everywhere(
    parser: ConfigParser, prediction: MetaTensor, turn: str
) -> None:
    affine = np.array(prediction.meta["original_affine"])
    affine[:3, :3] = affine[:3, :3] @ np.array(TURNS[turn])
    prediction = MetaTensor(prediction.as_tensor(), meta={**prediction.meta, "original_affine": affine})
    labels = parser.get_parsed_content("native_labels")(prediction)
    slab, starts = (parser.get_parsed_content(f"slab_{key}") for key in ("pred", "starts"))
    dense = torch.cat([slab(prediction, z).as_tensor() for z in starts(prediction.meta)], -1)
    assert len(labels.unique()) > 5
    assert torch.equal(labels.as_tensor(), dense.argmax(0, keepdim=True).to(torch.uint8))


def test_all_classes_are_interpolated_only_where_neighbouring_labels_differ(
    parser: ConfigParser, prediction: MetaTensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, shapes = torch.nn.functional.grid_sample, Counter[int]()

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        sampled = sample(*args, **kwargs)
        shapes[sampled.shape[1]] += sampled[:, 0].numel()
        return sampled

    monkeypatch.setattr(torch.nn.functional, "grid_sample", counted)
    parser.get_parsed_content("native_labels")(prediction)
    assert shapes == {CLASSES: sum(places(parser, prediction))}
    assert shapes[CLASSES] < np.prod(NATIVE) / 2  # of these blobs; organs are smoother


def unsure(prediction: MetaTensor) -> np.ndarray:
    """Where the image's voxels lie nearest to a voxel of the network's grid with another label beside it."""
    labels = np.pad(prediction.numpy().argmax(0), 2)  # background outside
    around = np.lib.stride_tricks.sliding_window_view(labels, (3, 3, 3))
    mixed = around.min((3, 4, 5)) != around.max((3, 4, 5))  # of the grid with one voxel around it
    places = np.indices(NATIVE).reshape(3, -1).T * SCALE + SHIFT
    nearest = np.rint(places).astype(int) + 1
    inside = ((nearest >= 0) & (nearest < mixed.shape)).all(1)
    found: np.ndarray = np.zeros(len(places), bool)
    found[inside] = mixed[tuple(nearest[inside].T)]
    return found.reshape(NATIVE)


def places(parser: ConfigParser, prediction: MetaTensor) -> list[int]:
    """Where all classes are interpolated in each slab: the unsure voxels, as many for each thread."""
    slab = int(parser.get_parsed_content("slab"))
    counts = [int(unsure(prediction)[..., z : z + slab].sum()) for z in range(0, NATIVE[2], slab)]
    return [-(-count // THREADS) * THREADS for count in counts]


def test_no_tensor_of_all_classes_is_ever_as_large_as_the_image(parser: ConfigParser, prediction: MetaTensor) -> None:
    with Largest() as largest:
        parser.get_parsed_content("native_labels")(prediction)
    assert (
        largest.floating
        == max(prediction.numel(), CLASSES * max(places(parser, prediction)))
        < CLASSES * np.prod(NATIVE) / 4
    )
    assert largest.any == max(largest.floating, np.prod(NATIVE))  # the label map


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
