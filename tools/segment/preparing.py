"""What a bundle needs before it segments the first case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.files import read_json

from ..dicom.segments import read_segments
from ..dicom.writing import Algorithm
from .cases import modality_of
from .running import Work
from .segmenter import Options, Segmenter


def prepare(
    bundle: Path,
    model: Path | None,
    device: str | None,
    options: Options,
    formats: Sequence[str],
    phases: Sequence[int] | None,
) -> Work:
    """Load the network, and gather all that the results depend on.

    Args:
        bundle: folder of the bundle.
        model, device, options: see `Segmenter`.
        formats, phases: see `Work`.

    Raises:
        UserError: see `Segmenter`.
    """
    metadata = read_json(bundle / "configs" / "metadata.json", "bundle's metadata")
    segmenter = Segmenter(bundle, model, device, options)
    settings = {
        "bundle": bundle.name,
        "version": metadata["version"],
        "weights": segmenter.weights,
        "fast": options.fast,
        "formats": sorted(formats),
        "probabilities": options.probabilities,
        "disagreement": options.disagreement,
        "phases": phases,
        "set": sorted(options.settings),
    }
    algorithm = Algorithm(metadata["name"], metadata["version"], segmenter.weights[:16])
    modality = modality_of(bundle, options.settings)
    return Work(segmenter, read_segments(bundle), modality, algorithm, formats, phases, settings)
