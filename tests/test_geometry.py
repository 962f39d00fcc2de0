"""Inference of the 3D bundles gives a label map on the image's own grid, wherever the image comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import Dataset, MetaTensor, PersistentDataset
from nibabel.eulerangles import euler2mat

BUNDLES = sorted(
    path.parent.parent
    for path in Path("bundles").glob("dca_*/configs/inference.json")
    if "SlidingWindowInferer" in path.read_text(encoding="utf-8")
)
AIR, BODY, MARKER = -1000, 40, 240


def oblique(spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine turned by about 11 degrees around two axes."""
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(z=0.2, x=-0.2) @ np.diag(spacing)
    affine[:3, 3] = (-150, -120, 300)
    return affine


def axes(codes: str, spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine whose axes point to `codes`, for example LPS, away from the world's origin."""
    start = nib.orientations.axcodes2ornt("RAS")
    turn = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(codes)))
    turned = nib.orientations.inv_ornt_aff(turn, (50, 50, 50))
    affine: np.ndarray = np.array([[1, 0, 0, -30], [0, 1, 0, 40], [0, 0, 1, -700], [0, 0, 0, 1]]) @ turned
    return affine @ np.diag([*spacing, 1.0])


GRIDS: dict[str, tuple[tuple[int, int, int], np.ndarray]] = {
    "RAS": ((60, 50, 40), axes("RAS", (2.0, 2.0, 3.0))),
    "LPS": ((60, 50, 40), axes("LPS", (2.0, 2.0, 3.0))),
    "LAS": ((60, 50, 40), axes("LAS", (2.0, 2.0, 3.0))),
    "sagittal": ((40, 60, 50), axes("PSR", (3.0, 2.0, 2.0))),
    "coronal": ((60, 40, 50), axes("LIP", (2.0, 3.0, 2.0))),
    "oblique": ((60, 50, 40), oblique((2.0, 2.0, 3.0))),
    "anisotropic": ((110, 100, 12), axes("LPS", (1.1, 1.1, 8.0))),
    "single slice": ((60, 50, 1), axes("LPS", (2.0, 2.0, 5.0))),
    "tiny": ((7, 6, 5), axes("RAS", (2.0, 2.0, 2.0))),
}


@pytest.fixture(params=BUNDLES, ids=lambda bundle: bundle.name)
def parser(request: pytest.FixtureRequest) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(request.param / "configs" / "inference.json")
    # Voxels that are close to the native ones, so that the marker keeps its place to half a voxel.
    parser.update({"bundle_root": str(request.param), "spacing": [2.0, 2.0, 2.0], "patch_size": [32, 32, 32]})
    return parser


@pytest.fixture(params=GRIDS)
def grid(request: pytest.FixtureRequest) -> tuple[tuple[int, int, int], np.ndarray]:
    return GRIDS[request.param]


def classify(image: torch.Tensor) -> torch.Tensor:
    """A network that knows two classes by their intensity: 1 the marker, 0 the rest; two channels more never win."""
    marker = (image - 0.7) * 50
    return torch.cat([-marker, marker, torch.full_like(image, -99), torch.full_like(image, -99)], dim=1)


def save_marked(path: Path, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """An image with a body and, off its centre on every axis, a marker; returns the marker's mask."""
    image = np.full(shape, AIR, np.int16)
    body = tuple(slice(n // 8, max(n // 8 + 1, n - n // 8)) for n in shape)
    image[body] = BODY
    marker = np.zeros(shape, bool)
    marker[tuple(slice(n // 5, max(n // 5 + 1, 2 * n // 5)) for n in shape)] = True
    image[marker] = MARKER
    nib.Nifti1Image(image, affine).to_filename(path)
    return marker


def segment(parser: ConfigParser, item: dict[str, Any]) -> MetaTensor:
    """The label map of a preprocessed item, [1, *native shape]."""
    steps = parser.get_parsed_content("postprocessing").transforms[:-1]  # without the one that saves
    item["pred"] = parser.get_parsed_content("inferer")(item["image"][None], classify)[0]
    for step in steps:
        item = step(item)
    return item["pred"]


def check(labels: MetaTensor, marker: np.ndarray, affine: np.ndarray) -> None:
    assert tuple(labels.shape[1:]) == marker.shape
    assert np.allclose(labels.affine, affine, atol=1e-5)
    found = labels[0].numpy() == 1
    overlap = 2 * (found & marker).sum() / (found.sum() + marker.sum())
    assert overlap > 0.75, overlap  # a mirrored or shifted marker would hardly meet the true one
    centres = [affine[:3, :3] @ np.argwhere(mask).mean(axis=0) for mask in (found, marker)]
    assert np.abs(centres[0] - centres[1]).max() <= 1.5  # mm, of the network's voxels of 2 mm


def test_labels_lie_on_the_images_grid_where_the_marker_is(
    parser: ConfigParser, grid: tuple[tuple[int, int, int], np.ndarray], tmp_path: Path
) -> None:
    shape, affine = grid
    marker = save_marked(tmp_path / "image.nii.gz", shape, affine)
    item = Dataset([{"image": str(tmp_path / "image.nii.gz")}], parser.get_parsed_content("preprocessing"))[0]
    check(segment(parser, item), marker, affine)


def test_the_second_read_of_a_cache_gives_the_same_labels(parser: ConfigParser, tmp_path: Path) -> None:
    shape, affine = GRIDS["oblique"]
    marker = save_marked(tmp_path / "image.nii.gz", shape, affine)
    for _ in range(2):
        cached = PersistentDataset(
            [{"image": str(tmp_path / "image.nii.gz")}],
            parser.get_parsed_content("preprocessing"),
            tmp_path / "cache",
            track_meta=True,
            weights_only=False,
        )
        check(segment(parser, dict(cached[0])), marker, affine)


def test_an_image_without_any_body_is_all_background(parser: ConfigParser, tmp_path: Path) -> None:
    nib.Nifti1Image(np.full((30, 20, 10), AIR, np.int16), np.diag([2.0, 2.0, 2.0, 1])).to_filename(
        tmp_path / "image.nii.gz"
    )
    item = Dataset([{"image": str(tmp_path / "image.nii.gz")}], parser.get_parsed_content("preprocessing"))[0]
    labels = segment(parser, item)
    assert labels.shape == (1, 30, 20, 10)
    assert not labels.any()


def test_saved_labels_have_the_geometry_of_the_image(parser: ConfigParser, tmp_path: Path) -> None:
    shape, affine = GRIDS["oblique"]
    save_marked(tmp_path / "image.nii.gz", shape, affine)
    parser.update({"output_dir": str(tmp_path / "out")})
    item = Dataset([{"image": str(tmp_path / "image.nii.gz")}], parser.get_parsed_content("preprocessing"))[0]
    pred = segment(parser, item)
    parser.get_parsed_content("postprocessing").transforms[-1]({"pred": pred})
    saved = nib.nifti1.load(tmp_path / "out" / "image_seg.nii.gz")
    assert saved.get_data_dtype() == np.uint8
    assert saved.shape == shape
    assert np.allclose(saved.affine, affine, atol=1e-4)
    assert np.array_equal(np.asarray(saved.dataobj), pred[0].numpy())
