"""What the segmenter holds at once on the network's device, in exact bytes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.inference.images import ImageDataset
from tests.bundle_commands import SYNAPSE, TINY_3D
from tests.live_bytes import LiveBytes
from tools.segment.options import Options
from tools.segment.segmenter import Segmenter

SETTINGS = [f"{key.removeprefix('--')}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)]
SIZE, CLASSES = (40, 36, 40), 14
GRID = 79 * 71 * 79  # voxels of the network's grid, which is twice as fine here: what is made in slabs is small


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.nii.gz"
    values = np.random.default_rng(0).normal(0, 60, SIZE).astype(np.int16)
    nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(path)
    return path


@pytest.mark.parametrize(("prediction", "sets"), [("aggregated", 2), ("stitched", 2), ("mean", 3), (None, 1)])
def test_after_the_windows_are_merged_no_copy_of_the_probabilities_is_made(
    prediction: str | None, sets: int, synapse_run: tuple[Path, str], image: Path
) -> None:
    """`sets` of probabilities the network returns; without experts, as with --fast, it has only its own."""
    fast = [*SETTINGS, "spacing=[1,1,1]", "patch_size=[48,48,48]", "crop_foreground=False"]
    options = Options(
        model=synapse_run[0] / "models",
        fast=prediction is None,
        disagreement=prediction is not None,
        settings=[*fast, f"prediction={prediction or 'aggregated'}"],
    )
    segmenter, held = Segmenter(SYNAPSE, options), []
    merge, coarse = (
        segmenter.inferer,
        torch.randn(1, sets * CLASSES, 3, 3, 3, generator=torch.Generator().manual_seed(1)),
    )

    def network(windows: torch.Tensor) -> torch.Tensor:
        smooth = torch.nn.functional.interpolate(4 * coarse, windows.shape[2:], mode="trilinear")
        return smooth.repeat(len(windows), 1, 1, 1, 1)

    def inferer(*arguments: Any) -> torch.Tensor:
        found = merge(*arguments)
        held.append(live.live)
        live.peak = live.live
        return found

    segmenter.network, segmenter.inferer = network, inferer
    with LiveBytes() as live:
        result = segmenter(image)
    assert len(np.unique(result.labels)) > 5
    probabilities = CLASSES * GRID * 4
    assert sets * probabilities < held[0] < (sets + 0.3) * probabilities
    # The labels of this grid's voxels with those of their neighbours, 40 bytes a voxel, and slabs of all classes.
    assert live.peak < held[0] + 0.85 * probabilities


def test_features_are_the_means_of_the_encoders_deepest_maps_over_the_windows_of_this_image(
    synapse_run: tuple[Path, str], tmp_path: Path
) -> None:
    one_window = [*SETTINGS, "spacing=[2,2,2]", "patch_size=[48,48,48]", "crop_foreground=False", "overlap=0"]
    segmenter = Segmenter(SYNAPSE, Options(model=synapse_run[0] / "models", settings=[*one_window, "amp=False"]))
    segmenter.collect_features()
    network = segmenter.parser.get_parsed_content("network")
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1e-3)  # after so few steps the statistics would drown what the image says
    halves = [np.random.default_rng(i).normal(80 * i, 60, (48, 48, 48)).astype(np.int16) for i in range(2)]
    found = []
    for i, voxels in enumerate([*halves, np.concatenate(halves, 2)]):
        path = tmp_path / f"{i}.nii.gz"
        nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(path)
        features = segmenter(path).features
        assert features is not None
        found.append(features)
    values = torch.as_tensor(halves[0].astype(np.float32))[None, None]
    low, high = segmenter.parser.get_parsed_content("window")
    with torch.no_grad():
        maps = network.encoder(((values - low) / (high - low)).clamp(0, 1))
    np.testing.assert_allclose(found[0], maps[-1].mean((0, 2, 3, 4)).numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, rtol=1e-4, atol=1e-6)


def test_the_bundles_own_softmax_is_not_applied_a_second_time(synapse_run: tuple[Path, str], image: Path) -> None:
    segmenter = Segmenter(SYNAPSE, Options(model=synapse_run[0] / "models", probabilities=True, settings=SETTINGS))
    segmenter.network = lambda x: torch.arange(CLASSES).view(1, -1, 1, 1, 1).expand(len(x), -1, *x.shape[2:]).float()
    segmenter.prediction = None
    found = segmenter(image).probabilities
    assert found is not None
    expected = torch.arange(CLASSES).float().softmax(0)[1:]
    middle = found[tuple(voxels // 2 for voxels in SIZE)]
    assert np.abs(middle - 255 * expected.numpy()).max() <= 0.51


def test_threads_share_a_segmenter_whose_network_has_one_image_at_a_time(
    synapse_run: tuple[Path, str], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter(SYNAPSE, Options(model=synapse_run[0] / "models", settings=SETTINGS))
    images = [image]
    for shift in (3, 9):  # other images, which take other times to load
        values = np.roll(np.asarray(nib.nifti1.load(image).dataobj), shift, 2)[..., shift:]
        images.append(tmp_path / f"{shift}.nii.gz")
        nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(images[-1])
    alone = [segmenter(path) for path in images]
    merge, inside, most = segmenter.inferer, [], []

    def inferer(*arguments: Any) -> torch.Tensor:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.1)
        found = merge(*arguments)
        inside.pop()
        return found

    def late(dataset: ImageDataset, index: int) -> Any:
        time.sleep(0.1)
        return load(dataset, index)

    segmenter.inferer, load = inferer, ImageDataset.__getitem__
    monkeypatch.setattr(ImageDataset, "__getitem__", late)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(segmenter, images))
    assert most == [1, 1, 1]
    for first, second in zip(alone, together, strict=True):
        assert np.array_equal(first.labels, second.labels)
        assert first.disagreement == second.disagreement
