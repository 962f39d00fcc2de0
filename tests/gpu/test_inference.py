"""Inference of a CT on a GPU: the CPU's label map, within 8 GB, without a detour over the host.

The environment's GPU_TEST_DEVICE names another device than cuda:0. On `cpu` they are small, and show that they work.
"""

from __future__ import annotations

import functools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.files import new_folder
from scripts.inference.native_grid import labels_on_image_grid, resampled
from scripts.methods import create_predictor
from tools.phantom import abdomen
from tools.segment.cases import Case
from tools.segment.options import Options
from tools.segment.request import GPU_OVERLAP, Ready, Request
from tools.segment.results import write_map
from tools.segment.segmenter import Result, Segmenter
from tools.segment.workers import segment_here

DEVICE = torch.device(os.environ.get("GPU_TEST_DEVICE", "cuda:0"))
ON_GPU = DEVICE.type == "cuda"
AMOS = Path(__file__).resolve().parents[2] / "bundles" / "dca_amos"
CLASSES = 16  # of AMOS, with the background
LARGE, SPACING = ((512, 512, 600), (0.8, 0.8, 1.0)) if ON_GPU else ((48, 48, 40), (4.0, 4.0, 5.0))
LARGE_SETTINGS = () if ON_GPU else ("spacing=[4,4,5]", "patch_size=[32,32,32]", "overlap=0.25", "width=4", "amp=False")
SMALL_SETTINGS = ("spacing=[3,3,3]", "patch_size=[64,64,64]", "overlap=0.25", "amp=False")
BYTES = 8e9

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        ON_GPU and not torch.cuda.is_available(),
        reason="needs a CUDA device, found none; GPU_TEST_DEVICE=cpu runs this small on the CPU",
    ),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of untrained networks that name several classes, by preset."""
    found = {}
    for preset, width in (("published", 16 if ON_GPU else 4), ("cpu", 8)):
        torch.manual_seed(3)
        network = {"style": "vnet", "spatial_dims": 3, "in_channels": 1, "num_classes": CLASSES - 1, "width": width}
        predictor = create_predictor("dca", preset=preset, **network).eval()
        for part in (predictor.aggregation, *predictor.experts):
            torch.nn.init.normal_(part.out.weight)
        found[preset] = tmp_path_factory.mktemp(preset)
        torch.save(predictor.state_dict(), found[preset] / "model.pt")
        about = {"method": "dca", "preset": preset, "network": {}}
        (found[preset] / "model.json").write_text(json.dumps(about))
    return found


def draw(path: Path, seed: int) -> Path:
    """A phantom's CT as a file."""
    size = (96, 96, 72)
    [(_, image, _)] = abdomen.draw(size, np.random.default_rng(seed))
    nib.Nifti1Image(image, np.diag([*np.multiply(abdomen.ORIENTATION, abdomen.spacing(size)), 1.0])).to_filename(path)
    return path


def small(models: dict[str, Path], device: torch.device) -> Segmenter:
    model = models["cpu"]
    options = Options(model=model, device=str(device), probabilities=True, disagreement=True, settings=SMALL_SETTINGS)
    return Segmenter(AMOS, options)


def clear(probabilities: NDArray[Any], by: float) -> NDArray[np.bool_]:
    """Where the likeliest of the classes [C, ...] leads by more than so much."""
    second, first = np.partition(probabilities, -2, axis=0)[-2:]
    found: NDArray[np.bool_] = first - second > by
    return found


@pytest.mark.parametrize("precision", ["highest", "high"])  # of a GPU's products of matrices
@pytest.mark.parametrize("sheared", [False, True])
def test_the_way_to_the_images_grid_gives_the_cpus_labels_but_for_ties(
    precision: str, sheared: bool, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(functools.partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision(precision)
    coarse = torch.randn(1, CLASSES, 7, 6, 6, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, (90, 80, 70), mode="trilinear")[0]
    affine = np.diag([0.3717, 0.3331, 0.4309, 1.0])
    affine[:3, 3] = -2.012, 1.513, 2.017
    affine[0, 1] = 0.1 if sheared else 0
    meta = {"affine": np.eye(4), "original_affine": affine, "spatial_shape": np.array((240, 240, 150))}
    probabilities = MetaTensor((8 * smooth).softmax(0), meta=meta)
    expected = labels_on_image_grid(probabilities)[0].numpy()
    found = labels_on_image_grid(MetaTensor(probabilities.as_tensor().to(DEVICE), meta=meta))
    assert found.device == DEVICE
    assert found.dtype == torch.uint8
    certain = clear(torch.cat(list(resampled(probabilities)), -1).numpy(), by=1e-3)
    assert certain.mean() > 0.8  # the rest is outside
    assert np.array_equal(found[0].cpu().numpy()[certain], expected[certain])


def test_the_label_map_is_the_cpus_but_for_ties(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    image = draw(tmp_path / "ct.nii.gz", 0)
    cpu, gpu = (small(models, torch.device(device))(image) for device in ("cpu", DEVICE))
    assert len(np.unique(cpu.labels)) > 3
    classes = np.moveaxis(of(cpu) / 255.0, -1, 0)
    certain = clear(np.concatenate([1 - classes.sum(0, keepdims=True), classes]), by=CLASSES / 255)  # of rounding
    assert certain.mean() > 0.2
    assert np.array_equal(cpu.labels[certain], gpu.labels[certain])
    assert (cpu.labels == gpu.labels).mean() > 0.999
    assert np.abs(of(cpu).astype(int) - of(gpu)).max() <= 2
    assert cpu.disagreement == pytest.approx(gpu.disagreement, abs=1e-2)


def of(result: Result) -> NDArray[np.uint8]:
    assert result.probabilities is not None
    return result.probabilities


class OnHost(TorchDispatchMode):
    """The most bytes of a tensor that an operation gives on the CPU."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.device.type == "cpu":
            self.most = max(self.most, out.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("prediction", ["aggregated", "mean"])
def test_a_large_ct_takes_at_most_8_gb_and_only_its_label_map_comes_back(
    prediction: str, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    pattern = rng.normal(40, 80, [voxels // 8 for voxels in LARGE]).astype(np.int16)
    for axis in range(3):
        pattern = np.repeat(pattern, 8, axis)
    nib.Nifti1Image(pattern, np.diag([*SPACING, 1.0])).to_filename(tmp_path / "ct.nii")
    settings = ("crop_foreground=False", f"prediction={prediction}", *LARGE_SETTINGS)
    segmenter = Segmenter(AMOS, Options(model=models["published"], device=str(DEVICE), settings=settings))
    merge, begun = segmenter.inferer, []

    def inferer(*arguments: Any) -> torch.Tensor:
        begun.append(time.monotonic())
        host.most = 0
        return merge(*arguments)

    segmenter.inferer = inferer
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats(DEVICE)
    with OnHost() as host:
        result = segmenter(tmp_path / "ct.nii")
    took = time.monotonic() - begun[0]
    assert result.labels.shape == LARGE
    assert len(np.unique(result.labels)) > 3
    assert result.disagreement
    if ON_GPU:
        peak, reserved = torch.cuda.max_memory_allocated(DEVICE), torch.cuda.max_memory_reserved(DEVICE)
        with capsys.disabled():
            print(f"\n{prediction}: {peak / 1e9:.2f} GB, {reserved / 1e9:.2f} GB reserved, {took:.1f} s on the device")
        assert peak <= BYTES
        assert host.most <= np.prod(LARGE)  # a byte a voxel


@dataclass(frozen=True, kw_only=True)
class Plain(Request):
    """Needs no DICOM packages: writes the label maps alone."""

    segmenter: Segmenter

    def ready(self, progress: bool = False) -> Ready:
        return Ready(self.segment, GPU_OVERLAP)

    def segment(self, case: Case) -> str | None:
        assert case.image is not None
        with new_folder(self.output / case.name, replace=True) as folder:
            result = self.segmenter(case.image)
            write_map(folder / "labels.nii.gz", result.labels, result.affine)
        return None


def test_cases_that_overlap_on_the_device_give_what_one_after_the_other_gives(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    cases = [Case(name, image=draw(tmp_path / "in" / f"{name}.nii.gz", seed)) for seed, name in enumerate("ab")]
    segmenter, seconds = small(models, DEVICE), []
    for output, overlap in (("first", 1), ("alone", 1), ("together", None)):  # the first call also warms up
        request = Plain(source=tmp_path, output=tmp_path / output, bundle=AMOS, segmenter=segmenter)
        told: list[tuple[str, str | None]] = []
        start = time.monotonic()
        segment_here(
            cases, request, lambda case, problem, told=told: told.append((case.name, problem)), overlap=overlap
        )
        seconds.append(time.monotonic() - start)
        assert told == [("a", None), ("b", None)]
    with capsys.disabled():
        print(f"\ntwo cases: {seconds[1]:.2f} s one after the other, {seconds[2]:.2f} s overlapping")
    for name in "ab":
        alone, together = (tmp_path / output / name / "labels.nii.gz" for output in ("alone", "together"))
        assert alone.read_bytes() == together.read_bytes()
