"""Pictures of segmentations over their images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.data.datalists import read_datalist

# Three sections of a volume, at these shares of the slices that hold foreground.
SECTIONS = (0.25, 0.5, 0.75)


def draw_cases(data: Path, predictions: Path, output: Path) -> list[Path]:
    """One PNG per predicted case of a datalist: its slices with the label's outline and the predicted regions.

    Args:
        data: folder with datalist.json.
        predictions: folder of label maps named <image>_seg.nii.gz.
        output: folder for the pictures; made if need be.

    Returns:
        The files, in the order of the datalist.
    """
    content = read_datalist(data / "datalist.json")
    names = {int(c): name for c, name in content["labels"].items() if int(c) > 0}
    output.mkdir(parents=True, exist_ok=True)
    files = []
    for case in content["cases"]:
        stem = Path(case["image"]).name.split(".")[0]
        prediction = predictions / f"{stem}_seg.nii.gz"
        if prediction.exists():
            files.append(output / f"{case['id']}.png")
            label = _load(data / case["label"]) if "label" in case else None
            draw_overlay(files[-1], _load(data / case["image"]), _load(prediction), label, names, case["id"])
    return files


def draw_overlay(
    path: Path,
    image: NDArray[Any],
    prediction: NDArray[Any],
    label: NDArray[Any] | None,
    names: Mapping[int, str],
    title: str,
) -> None:
    """Write a PNG: three axial slices [X, Y, Z]; predicted classes filled, the label's outline in white.

    Args:
        path: the PNG.
        image, prediction, label: volumes of one shape; label may be None.
        names: names of the classes to draw and list.
        title: over the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    shown = prediction if label is None else np.maximum(prediction, label)
    slices = np.flatnonzero((shown > 0).any(axis=(0, 1)))
    if not len(slices):
        slices = np.arange(image.shape[2])
    palette = pyplot.get_cmap("tab20")
    # The strong colours first, then the pale ones; its two greys would vanish in the image.
    order = [i for start in (0, 1) for i in range(start, 20, 2) if i not in (14, 15)]
    colours = {c: palette(order[i % len(order)]) for i, c in enumerate(sorted(names))}
    fill = ListedColormap([(0, 0, 0, 0), *(colours.get(c, (0, 0, 0, 0)) for c in range(1, max(names) + 1))])
    low, high = np.percentile(image, [1, 99])
    figure, axes = pyplot.subplots(1, len(SECTIONS), figsize=(4 * len(SECTIONS), 4.8), layout="constrained")
    for axis, share in zip(axes, SECTIONS, strict=True):
        z = int(slices[round(share * (len(slices) - 1))])
        axis.imshow(image[:, :, z].T, cmap="gray", vmin=low, vmax=high, origin="lower")
        region = {"cmap": fill, "vmin": 0, "vmax": max(names), "alpha": 0.5, "interpolation": "nearest"}
        axis.imshow(prediction[:, :, z].T, origin="lower", **region)
        if label is not None:
            for c in np.unique(label[:, :, z]):
                if c > 0:
                    axis.contour(
                        np.equal(label[:, :, z].T, c).astype(float), levels=[0.5], colors="white", linewidths=0.8
                    )
        axis.set_title(f"slice {z + 1} of {image.shape[2]}", fontsize=10)
        axis.set_axis_off()
    figure.legend(
        handles=[Patch(color=colours[c], label=names[c]) for c in sorted(names)],
        loc="outside lower center",
        ncols=min(5, len(names)),
        frameon=False,
    )
    outline = "" if label is None else "; the label's outline in white"
    figure.suptitle(f"{title}: predicted regions in colour{outline}", fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _load(path: Path) -> NDArray[Any]:
    return np.asarray(nib.nifti1.load(path).dataobj)
