"""Inference of a whole CT, from loading it to the label map saved: a bundle's inference.json against stock MONAI.

The network is the abdominal bundle's, trained for two minutes on small phantoms: its Dice means something,
and is not good. The environment's BENCH_MODEL may name another model.pt of the preset, to skip that.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.common.paths import ROOT

from .jobs import BUNDLE, Job, Variant

if TYPE_CHECKING:
    import numpy as np

MODEL = "BENCH_MODEL"
STEPS, WARMUP, PATCH = 300, 30, [48, 48, 48]
ORGANS = 13
SLAB = 16  # slices that are scored at once
# What the zoo's bundles do: float32, windows by four that overlap by half, all classes at the image's size.
STOCK: dict[str, Any] = {
    "amp": False,
    "network": "$@network_def.to(@device)",
    "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
    "inferer::overlap": 0.5,
    "inferer::sw_batch_size": 4,
    "evaluator": {
        "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader", "network": "@network",
        "inferer": "@inferer", "postprocessing": "@postprocessing", "val_handlers": "@handlers",
    },
    "postprocessing::transforms": [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
         "nearest_interp": False},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg",
         "output_dtype": "$np.uint8", "separate_folder": False, "resample": False},
    ],
}  # fmt: skip


def prepare(folder: Path, size: Sequence[int], times: int = 1) -> None:
    """Write image.nii.gz and label.npy, of the abdominal phantom, and model.pt.

    Args:
        folder: where to.
        size: voxels of the phantom along x, y, z.
        times: every voxel becomes as many along each axis: drawing takes much longer than this.
    """
    import nibabel as nib
    import numpy as np

    from tools.phantom import abdomen

    [(_, image, label)] = abdomen.draw(size, np.random.default_rng(0))
    for axis in range(3):
        image, label = np.repeat(image, times, axis), np.repeat(label, times, axis)
    spacing = np.divide(abdomen.spacing(size), times)
    affine = np.diag([*np.multiply(abdomen.ORIENTATION, spacing), 1.0])
    nib.Nifti1Image(image, affine).to_filename(folder / "image.nii.gz")
    np.save(folder / "label.npy", np.asfortranarray(label))  # so that a slab of it is one piece of the file
    (folder / "model.pt").write_bytes(Path(os.environ[MODEL]).read_bytes() if MODEL in os.environ else _trained())


@functools.cache
def _trained() -> bytes:
    """A model.pt, the same for all jobs of a bench."""
    from tools.phantom.command import make_phantom

    with tempfile.TemporaryDirectory(prefix="bench_") as name:
        data, run = Path(name) / "data", Path(name) / "run"
        make_phantom("abdomen", data, cases=4, labelled=4, validation=1, test=0, percent=100)
        words = ["--dataset_dir", data, "--split_file", data / "split.json", "--percent", 100, "--run_dir", run]
        words += ["--ckpt_dir", run, "--bundle_root", BUNDLE]
        words += ["--steps", STEPS, "--val_steps", STEPS, "--warmup", WARMUP, "--patch_size", PATCH]
        start = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
        command = [*start, "--config_file", BUNDLE / "configs" / "train.json", *words]
        subprocess.run([str(word) for word in command], cwd=ROOT, check=True, stdout=sys.stderr)
        return (run / "model.pt").read_bytes()


def runs(settings: dict[str, Any]) -> Callable[[Path], Callable[[], Callable[[], float]]]:
    """The bundle's evaluator, with these settings; its result is the mean Dice of the file it saved."""

    def make(folder: Path) -> Callable[[], Callable[[], float]]:
        output = Path(tempfile.mkdtemp(dir=folder))
        inference = evaluator(folder / "image.nii.gz", folder / "model.pt", output, settings)

        def run() -> Callable[[], float]:
            inference.run()
            return lambda: _dice(output / "image_seg.nii.gz", folder / "label.npy")

        return run

    return make


def evaluator(image: Path, model: Path, output: Path, settings: dict[str, Any]) -> Any:
    """The evaluator of the bundle's inference.json, whose `run` segments one image; the model is loaded.

    Args:
        image, model: files.
        output: folder of the label map.
        settings: others of inference.json.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    places = {"dataset_dir": image, "checkpoint": model, "output_dir": output}
    parser.update({"bundle_root": str(BUNDLE), **{key: str(place) for key, place in places.items()}, **settings})
    parser.get_parsed_content("initialize")
    return parser.get_parsed_content("evaluator")


def _dice(saved: Path, label_file: Path) -> float:
    """Mean Dice of the organs, from a few slices at a time: this shares its process with what is measured."""
    import nibabel as nib
    import numpy as np

    found, label = np.asarray(nib.nifti1.load(saved).dataobj), np.load(label_file, mmap_mode="r")
    both = np.zeros((ORGANS + 1, ORGANS + 1), np.int64)
    for z in range(0, label.shape[2], SLAB):
        pair: np.ndarray = label[..., z : z + SLAB].astype(np.int16) * (ORGANS + 1) + found[..., z : z + SLAB]
        both += np.bincount(pair.ravel(), minlength=both.size).reshape(both.shape)
    return float((2 * both.diagonal() / (both.sum(0) + both.sum(1)))[1:].mean())


def _job(name: str, **phantom: Any) -> Job:
    return Job(
        f"inference, {name}",
        variants=(
            Variant("stock MONAI, fp32, overlap 0.5", runs(STOCK)),
            Variant("inference.json, OpenVINO", runs({"backend": "openvino"})),  # its start is not timed
            Variant("inference.json", runs({})),
        ),
        prepare=functools.partial(prepare, **phantom),
        tolerance=1e-3,
        goal_speedup=5,
        goal_peak=0.25,
        needs=("openvino",),
    )


JOBS = (_job("256x256x150", size=(256, 256, 150)), _job("512x512x400", size=(256, 256, 200), times=2))
