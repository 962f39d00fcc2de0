"""What a bundle needs before it segments the first case."""

from __future__ import annotations

from pathlib import Path

from scripts.files import read_json

from ..dicom.segments import read_segments
from ..dicom.writing import Algorithm
from .cases import modality_of
from .options import Options
from .running import Work
from .segmenter import Segmenter


def prepare(bundle: Path, options: Options) -> Work:
    """Load the network of a bundle's folder, and gather all that the results depend on.

    Raises:
        UserError: a missing model, an unknown setting or device, weights of another network.
    """
    metadata = read_json(bundle / "configs" / "metadata.json", "bundle's metadata")
    segmenter = Segmenter(bundle, options)
    about = {"bundle": bundle.name, "version": metadata["version"], "weights": segmenter.weights}
    algorithm = Algorithm(metadata["name"], metadata["version"], segmenter.weights[:16])
    modality = modality_of(bundle, options.settings)
    return Work(segmenter, read_segments(bundle), modality, algorithm, options, about | options.recorded())
