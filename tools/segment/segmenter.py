"""A bundle's own inference, its network loaded once, on one image after the other."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Activationsd, Invertd, SaveImaged
from numpy.typing import NDArray
from torch import nn

from scripts.errors import UserError
from scripts.files import sha256
from scripts.group_names import GROUP_NAMES
from scripts.inference.backends import for_inference
from scripts.inference.native_grid import SLAB, LabelsOnImageGridd, resampled
from scripts.networks import Encoder
from scripts.networks.dca import DCANet, mean_logits
from scripts.settings import expect_device

from ..common.findings import Findings
from ..common.merging import load_config, parse_overrides
from ..common.trained import read_description, trained_settings
from .cases import model_file
from .disagreement import differences, distance
from .options import Options

logger = logging.getLogger(__name__)

# Instead of the bundle's: how far a sliding window overlaps with the next, and how many times as long it is.
FAST_OVERLAP, FAST_WINDOW = 0.1, 1.25


@dataclass(frozen=True)
class Result:
    """What a bundle makes of one image, on the image's own grid.

    labels: class ids [X, Y, Z].
    affine: of the grid, [4, 4], RAS+.
    disagreement: per class that either names, 1 - Dice of the label map of D_A against that of the stitched experts;
        None for a network without experts.
    features: [C], the encoder's deepest maps, averaged over the image, if asked for (`Segmenter.collect_features`).
    probabilities: of the classes 1..K in 1 / 255, [X, Y, Z, K], if asked for.
    disagreement_map: half the sum over the classes of |p - q|, of the probabilities of D_A and of the stitched experts,
        in 1 / 255, [X, Y, Z], if asked for.
    """

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    disagreement: dict[int, float] | None
    features: NDArray[np.float32] | None = None
    probabilities: NDArray[np.uint8] | None = None
    disagreement_map: NDArray[np.uint8] | None = None


class Segmenter:
    """Runs configs/inference.json of a bundle: its preprocessing, network, inferer and postprocessing.

    Several threads may call it at once: they load their images side by side, and one at a time has the network. From
    there to the label map on the image's grid all is on the device, which holds the probabilities once.

    Args:
        bundle: folder of the bundle.
        options: model, device, fast, probabilities, disagreement and settings are looked at; None takes the defaults.

    Attributes:
        weights: hash of the model.
        groups: group of each class ("head", ..., "tail"); empty where no disagreement is computed.

    Raises:
        UserError: a missing model, an unknown setting or device, weights of another network.
    """

    def __init__(self, bundle: Path, options: Options | None = None) -> None:
        self.options = options or Options()
        checkpoint = model_file(bundle, self.options.model)
        if not checkpoint.is_file():
            raise UserError(f"{checkpoint}: expected a trained model, found no such file; train first, or pass --model")
        self.weights = sha256(checkpoint)
        parser = ConfigParser()
        parser.read_config(bundle / "configs" / "inference.json")
        parser.update(_overrides(bundle, checkpoint, self.options))
        parser.get_parsed_content("initialize")  # checks the settings and loads the weights
        self.parser = parser
        self.key = str(parser.get_parsed_content("image_key"))
        self.num_classes = int(parser.get_parsed_content("num_classes"))
        self.device = torch.device(parser.get_parsed_content("device"))
        self.dataset = parser.get_parsed_content("dataset")
        self.inferer = parser.get_parsed_content("inferer")
        network = parser.get_parsed_content("network").eval()
        self.prediction = network.prediction if isinstance(network, DCANet) and not self.options.fast else None
        self.groups = _groups(network) if self.prediction else {}
        whole = _WithExperts(network) if self.prediction else network
        self.pooled: list[torch.Tensor] = []  # features of the windows of the image that has the network
        amp, backend, mirror_axes = (parser.get_parsed_content(key) for key in ("amp", "backend", "mirror_axes"))
        self.network = for_inference(whole, self.device, amp, backend, mirror_axes)
        steps = parser.get_parsed_content("postprocessing").transforms
        self.transforms = [step for step in steps if not isinstance(step, Activationsd | SaveImaged)]
        self.alone = threading.Lock()

    def __call__(self, *files: Path, progress: bool = False) -> Result:
        """Segment one image: a file, or one per channel; `progress` shows a bar over the parts of the image.

        Raises:
            UserError: an image that cannot be read, of another modality or of other channels.
        """
        dataset = copy.copy(self.dataset)  # its own, since another thread may load another image
        dataset.data = [{self.key: [*map(str, files)]}]
        item = dict(dataset[0])
        with self.alone, torch.no_grad():
            self.inferer.progress = progress
            self.pooled.clear()
            own, *experts = self._probabilities(item)
            labels = self._labels(item, own)
            scores, difference = (self._disagreement(item, labels, own, experts)) if experts else (None, None)
            probabilities = self._native(item, own[1:]) if self.options.probabilities else None
            on_host = labels[0].to(torch.uint8).cpu()
            features = torch.cat(self.pooled).mean(0).cpu().numpy() if self.pooled else None
        return Result(
            labels=on_host.numpy(),
            affine=labels.affine.cpu().numpy().astype(np.float64),
            disagreement=scores,
            features=features,
            probabilities=None if probabilities is None else np.moveaxis(probabilities, 0, -1),
            disagreement_map=difference,
        )

    def collect_features(self) -> None:
        """From now on results have `features`, unless OpenVINO runs the network."""
        network = self.parser.get_parsed_content("network")
        encoder = next((part for part in network.modules() if isinstance(part, Encoder)), None)
        if encoder is not None and self.parser.get_parsed_content("backend") == "torch":
            encoder.register_forward_hook(self._pool)

    def _pool(self, encoder: nn.Module, images: Any, maps: list[torch.Tensor]) -> None:
        self.pooled.append(maps[-1].float().flatten(2).mean(-1))

    def _probabilities(self, item: dict[str, Any]) -> Sequence[MetaTensor]:
        """The network's predictions [C, *network grid]: its own, and for one with experts those of `_WithExperts`."""
        found = self.inferer(item[self.key][None].to(self.device), self.network)[0]
        predictions: Sequence[MetaTensor] = found.split(self.num_classes + 1)
        for prediction in predictions:
            # In their place and slab by slab: of a large CT a second copy would take gigabytes of a GPU.
            for slab in prediction.as_tensor().split(SLAB, 1):
                slab.copy_(slab.softmax(0))
        return predictions

    def _labels(self, item: dict[str, Any], probabilities: MetaTensor) -> MetaTensor:
        """The bundle's postprocessing without its first step, the softmax, and its last, which writes: [1, X, Y, Z]."""
        item = item | {"pred": probabilities}
        for step in self.transforms:
            item = step(item)
        return cast(MetaTensor, item["pred"])

    def _native(self, item: dict[str, Any], values: torch.Tensor) -> NDArray[np.uint8]:
        """Maps [C, *network grid] of numbers from 0 to 1 to the image's own grid, in 1 / 255."""
        native: Any = item | {"pred": values}
        for step in self.transforms:
            if isinstance(step, LabelsOnImageGridd):
                slabs = resampled(cast(MetaTensor, values), step.slab)
                return np.concatenate([_as_bytes(slab) for slab in slabs], axis=-1)
            if isinstance(step, Invertd):
                native = step(native)
        return _as_bytes(native["pred"])

    def _disagreement(
        self, item: dict[str, Any], labels: MetaTensor, own: MetaTensor, experts: Sequence[MetaTensor]
    ) -> tuple[dict[int, float], NDArray[np.uint8] | None]:
        """Scores per class, and the map if asked for; `experts` holds what `own` is not of D_A's and theirs."""
        first, second = [own, *experts][-2:]
        maps = [labels if found is own else self._labels(item, found) for found in (first, second)]
        scores = differences(maps[0].as_tensor()[0], maps[1].as_tensor()[0], self.num_classes)
        if not self.options.disagreement:
            return scores, None
        return scores, self._native(item, distance(first, second))[0]


class _WithExperts(nn.Module):
    """A DCANet that returns the logits of its prediction and those of D_A and of the stitched experts beside it.

    [B, C_in, *spatial] to [B, 2 C, *spatial], the prediction first, then the other one of the two; where the prediction
    is their mean, to [B, 3 C, *spatial]. The experts are computed once.
    """

    def __init__(self, network: DCANet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        aggregated, stitched = self.network.predictions(x)
        parts = {"aggregated": [aggregated, stitched], "stitched": [stitched, aggregated]}.get(self.network.prediction)
        return torch.cat(parts or [mean_logits(aggregated, stitched), aggregated, stitched], 1)


def _groups(network: DCANet) -> dict[int, str]:
    names = GROUP_NAMES[len(network.experts)]
    return {c: names[expert] for c, expert in enumerate(network.owner.tolist(), 1)}


def _as_bytes(values: torch.Tensor) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = np.asarray((values * 255).round().to(torch.uint8).cpu())
    return whole


def _overrides(bundle: Path, checkpoint: Path, options: Options) -> dict[str, Any]:
    """What is set beside the config: places, what the model says of itself, and what the user sets, which goes first.

    Raises:
        UserError: an unknown key or device.
    """
    findings = Findings()
    chosen = parse_overrides([f"--{word}" for word in options.settings], findings)
    config = bundle / "configs" / "inference.json"
    whole = load_config([config], chosen, findings)
    findings.raise_if_any(f"--set, {config}")
    overrides: dict[str, Any] = {"bundle_root": str(bundle), "checkpoint": str(checkpoint), "datalist": []}
    about = checkpoint.with_suffix(".json")
    if about.is_file():
        overrides |= trained_settings(read_description(about))
    if options.fast and "overlap" in whole:
        overrides["overlap"] = FAST_OVERLAP
        overrides["inferer::roi_size"] = f"$[int({FAST_WINDOW} * voxels) for voxels in @patch_size]"
    if options.device is not None:
        expect_device("--device", options.device)
        overrides["device"] = f"$torch.device({options.device!r})"
    return overrides | chosen
