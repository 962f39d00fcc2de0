"""One case from its images to its folder of results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.errors import UserError, first_line, user_message
from scripts.files import new_folder

from ..dicom.segments import Segments
from ..dicom.volume import DicomVolume, read_volumes
from ..dicom.writing import Algorithm, write_segmentation
from .cases import Case
from .options import Options
from .results import is_finished, volume_rows, write_map, write_record, write_table
from .segmenter import Result, Segmenter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What is done with every case.

    segmenter: the bundle with its network.
    segments: its classes.
    modality: "CT" or "MR".
    algorithm: for DICOM SEG.
    options: how to segment, and what to write.
    settings: all of it that the results depend on.
    """

    segmenter: Segmenter
    segments: Segments
    modality: str
    algorithm: Algorithm
    options: Options
    settings: Mapping[str, Any]

    def settings_of(self, case: Case) -> dict[str, Any]:
        """All that the results of a case depend on, itself among it."""
        return {"image": case.identity, **self.settings}


@dataclass(frozen=True)
class Prediction:
    """What was found in one image of a case.

    name: of the phase, such as "ED"; "" where there is but one image.
    result: the label map and what belongs to it.
    volume: the images of a series and how they lie, without the values; None for a file.
    phase: of a cine, counted from 0.
    written: whether its maps are, or only its volumes.
    """

    name: str
    result: Result
    volume: DicomVolume | None = None
    phase: int | None = None
    written: bool = True


def try_case(case: Case, folder: Path, work: Work, progress: bool = False) -> str | None:
    """Segment a case unless that has been done; what went wrong, or None: other cases are segmented all the same."""
    try:
        if is_finished(folder, work.settings_of(case), work.options.overwrite):
            logger.info("%s: finished before", case.name)
            return None
        segment_case(case, folder, work, progress)
    except Exception as error:
        message = user_message(error)
        if message is None:
            logger.exception("%s", case.name)
        return message or f"{type(error).__name__}: {first_line(error)}"
    return None


def segment_case(case: Case, folder: Path, work: Work, progress: bool = False) -> None:
    """Segment a case and write its results into `folder`, or nothing after an error.

    Raises:
        UserError: an image or a series that cannot be segmented.
    """
    with new_folder(folder, replace=True) as partial:
        write_case(case, partial, work, predict_case(case, partial, work, progress))


def predict_case(case: Case, scratch: Path, work: Work, progress: bool = False) -> list[Prediction]:
    """Segment a case: its image, or the phases of a cine.

    Args:
        case: what to segment.
        scratch: a folder for volumes on the way; they are removed.
        work: the bundle with its network, and the options.
        progress: show a bar.

    Raises:
        UserError: an image or a series that cannot be segmented.
    """
    if case.image is not None:
        _refuse_phases(work, case.source)
        return [Prediction("", work.segmenter(case.image, *case.further, progress=progress))]
    assert case.series is not None
    volumes = read_volumes(case.series, work.modality)
    if len(volumes) > 1:
        return _cine(case, scratch, work, volumes, progress)
    _refuse_phases(work, case.source)
    return [Prediction("", _segment(volumes[0], scratch, case, work, progress), _without_values(volumes[0]))]


def write_case(case: Case, folder: Path, work: Work, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Write what was found in a case into an empty folder, and return its volumes."""
    rows = []
    for found in predictions:
        if found.written:
            _write_maps(folder, case, work, found)
        rows += _rows(case, work, found)
    if "csv" in work.options.formats:
        write_table(folder / "volumes.csv", rows)
    write_record(folder, work.settings_of(case), rows, case=case.name, source=case.source)
    return rows


def _without_values(volume: DicomVolume) -> DicomVolume:
    """What is written refers only to the images, and several series in memory would be large."""
    return replace(volume, values=np.empty(0))


def _refuse_phases(work: Work, source: str) -> None:
    if work.options.phases is not None:
        raise UserError(f"{source}: expected a cine for --phases, found one image at each place; leave it out")


def _segment(volume: DicomVolume, folder: Path, case: Case, work: Work, progress: bool = False) -> Result:
    image = folder / f"{case.name}.nii"  # its name stands in messages
    volume.to_nifti(image)
    try:
        return work.segmenter(image, progress=progress)
    finally:
        image.unlink()


def _cine(case: Case, scratch: Path, work: Work, volumes: Sequence[DicomVolume], progress: bool) -> list[Prediction]:
    """Segment the phases that are asked for; without such, all of them, to find end-systole."""
    smallest = work.segments.smallest_at_end_systole
    if work.options.phases is None and smallest is None:
        raise UserError(
            f"{case.source}: expected one image at each place, found {len(volumes)}; name some with --phases, from 0"
        )
    chosen = range(len(volumes)) if work.options.phases is None else work.options.phases
    wrong = [phase for phase in chosen if not 0 <= phase < len(volumes)]
    if wrong:
        raise UserError(f"--phases: expected 0 to {len(volumes) - 1} for {case.source}, found {wrong[0]}")
    bar = tqdm(chosen, "phases", disable=not progress)
    results = {phase: _segment(volumes[phase], scratch, case, work) for phase in bar}
    names = {phase: f"phase{phase:02d}" for phase in chosen}
    written = list(chosen)
    if work.options.phases is None:
        assert smallest is not None
        voxels = {phase: int((result.labels == smallest).sum()) for phase, result in results.items()}
        systole = _end_systole(voxels, work.segments.by_class[smallest].name, case)
        names |= {0: "ED", systole: "ES"}
        written = [0, systole]
        logger.info("%s: end-diastole is phase 0, end-systole phase %d of %d", case.source, systole, len(volumes))
    # The volumes of the phases that are not written show how the choice was made.
    return [
        Prediction(names[phase], result, _without_values(volumes[phase]), phase, phase in written)
        for phase, result in results.items()
    ]


def _end_systole(voxels: Mapping[int, int], name: str, case: Case) -> int:
    """The phase after the first in which the structure is smallest, but there."""
    later = {phase: count for phase, count in voxels.items() if phase > 0 and count > 0}
    if not later:
        raise UserError(
            f"{case.source}: expected a {name} to tell end-systole by, found none; name the phases with --phases"
        )
    return min(later, key=lambda phase: later[phase])


def _rows(case: Case, work: Work, found: Prediction) -> list[dict[str, Any]]:
    names = {c: segment.name for c, segment in work.segments.by_class.items()}
    result = found.result
    return volume_rows(case.name, found.name, result.labels, result.affine, names, result.disagreement)


def _write_maps(folder: Path, case: Case, work: Work, found: Prediction) -> None:
    """Write the maps of one image."""
    name, result = found.name, found.result
    start = f"{name}_" if name else ""
    if "nifti" in work.options.formats:
        write_map(folder / f"{start}labels.nii.gz", result.labels, result.affine)
    for what, values in (("probabilities", result.probabilities), ("disagreement", result.disagreement_map)):
        if values is not None:
            write_map(folder / f"{start}{what}.nii.gz", values, result.affine, scale=1 / 255)
    if "seg" in work.options.formats and found.volume is not None:
        about = name if found.phase is None else f"{name} phase {found.phase}"
        path = folder / f"{start}segmentation.dcm"
        absent = write_segmentation(path, result.labels, found.volume, work.segments.by_class, work.algorithm, about)
        if absent:
            nothing = "" if path.exists() else ": no DICOM SEG is written"
            logger.info("%s%s: found no %s%s", case.source, f", {name}" if name else "", ", ".join(absent), nothing)
