"""The verb `segment` with a network that can be told in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from tests.properties.scans import Array, Grid, hounsfield
from tools.segment.cases import find_cases
from tools.segment.options import Options
from tools.segment.preparing import prepare
from tools.segment.running import segment_case


def mosaic(grid: Grid, classes: int, seed: int) -> tuple[Array, Array]:
    """Intensities and classes, any one in each voxel, from the faintest class to the brightest."""
    ids = np.random.default_rng(seed).integers(0, classes + 1, grid.shape)
    ids.flat[0], ids.flat[-1] = 0, classes
    brightness = ids / classes
    return hounsfield(0.2 + 0.8 * brightness), ids


def bands(classes: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network that knows classes 0..K by intensities from 0 to 1, in equal bands; it is unsure where two meet."""
    middles = torch.arange(classes + 1) + 0.5

    def network(images: torch.Tensor) -> torch.Tensor:
        return -4 * (images * (classes + 1) - middles.view(1, -1, *[1] * (images.dim() - 2))) ** 2

    return network


def segment(
    bundle: Path, weights: Path, classes: int, image: Path, series: str | None = None, **settings: object
) -> Path:
    """The folder of what the verb writes of an image or a series, by `bands` in the place of the network."""
    common = {"method": "supervised", "width": 1, "labels": {str(c): f"class {c}" for c in range(1, classes + 1)}}
    words = [f"{key}={value}" for key, value in {**common, **settings}.items()]
    how = {"device": "cpu", "probabilities": True, "formats": ["nifti", "csv"]}
    work = prepare(bundle, Options(model=weights, series=series, settings=words, **how))
    work.segmenter.network = bands(classes)
    output = image.parent / "out"
    (case,) = find_cases(image, output, work.modality, series)
    segment_case(case, output / case.name, work)
    return output / case.name


def read_map(folder: Path, grid: Grid, name: str = "labels") -> Array:
    """A map's values; it has bytes, and the grid of the scan."""
    found = nib.nifti1.load(folder / f"{name}.nii.gz")
    assert found.get_data_dtype() == np.uint8
    assert found.shape[:3] == grid.shape
    np.testing.assert_allclose(found.affine, grid.affine, rtol=1e-5, atol=1e-3)
    return np.asarray(found.dataobj)
