"""One case from its images to its folder of results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.errors import UserError

from ..dicom.segments import Segments
from ..dicom.volume import DicomVolume, read_volumes
from ..dicom.writing import Algorithm, write_segmentation
from .cases import Case
from .results import new_folder, volume_rows, write_map, write_record, write_table
from .segmenter import Result, Segmenter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What is done with every case.

    segmenter: the bundle with its network.
    segments: its classes.
    modality: "CT" or "MR".
    algorithm: for DICOM SEG.
    formats: of "nifti", "seg", "csv".
    phases: of a cine, counted from 0; None chooses end-diastole and end-systole.
    settings: all of it that the results depend on.
    """

    segmenter: Segmenter
    segments: Segments
    modality: str
    algorithm: Algorithm
    formats: Sequence[str]
    phases: Sequence[int] | None
    settings: Mapping[str, Any]

    def settings_of(self, case: Case) -> dict[str, Any]:
        """All that the results of a case depend on, itself among it."""
        return {"image": case.identity, **self.settings}


def segment_case(case: Case, folder: Path, work: Work, progress: bool = False) -> None:
    """Segment a case and write its results into `folder`, or nothing after an error.

    Raises:
        UserError: an image or a series that cannot be segmented.
    """
    with new_folder(folder) as partial:
        if case.image is not None:
            _refuse_phases(work, case.source)
            rows = _write(partial, case, work, "", work.segmenter(case.image, progress), None)
        else:
            assert case.series is not None
            volumes = read_volumes(case.series, work.modality)
            if len(volumes) == 1:
                _refuse_phases(work, case.source)
                rows = _write(partial, case, work, "", _segment(volumes[0], partial, case, work, progress), volumes[0])
            else:
                rows = _cine(partial, case, work, volumes, progress)
        if "csv" in work.formats:
            write_table(partial / "volumes.csv", rows)
        write_record(partial, work.settings_of(case), rows, case=case.name, source=case.source)


def _refuse_phases(work: Work, source: str) -> None:
    if work.phases is not None:
        raise UserError(f"{source}: expected a cine for --phases, found one image at each place; leave it out")


def _segment(volume: DicomVolume, folder: Path, case: Case, work: Work, progress: bool = False) -> Result:
    image = folder / f"{case.name}.nii"  # its name stands in messages
    volume.to_nifti(image)
    try:
        return work.segmenter(image, progress)
    finally:
        image.unlink()


def _cine(folder: Path, case: Case, work: Work, volumes: Sequence[DicomVolume], progress: bool) -> list[dict[str, Any]]:
    """Segment the phases that are asked for; without such, all of them, to find end-systole."""
    smallest = work.segments.smallest_at_end_systole
    if work.phases is None and smallest is None:
        raise UserError(
            f"{case.source}: expected one image at each place, found {len(volumes)}; name some with --phases, from 0"
        )
    chosen = range(len(volumes)) if work.phases is None else work.phases
    wrong = [phase for phase in chosen if not 0 <= phase < len(volumes)]
    if wrong:
        raise UserError(f"--phases: expected 0 to {len(volumes) - 1} for {case.source}, found {wrong[0]}")
    bar = tqdm(chosen, "phases", disable=not progress)
    results = {phase: _segment(volumes[phase], folder, case, work) for phase in bar}
    names = {phase: f"phase{phase:02d}" for phase in chosen}
    written = list(chosen)
    if work.phases is None:
        assert smallest is not None
        voxels = {phase: int((result.labels == smallest).sum()) for phase, result in results.items()}
        systole = _end_systole(voxels, work.segments.by_class[smallest].name, case)
        names |= {0: "ED", systole: "ES"}
        written = [0, systole]
        logger.info("%s: end-diastole is phase 0, end-systole phase %d of %d", case.source, systole, len(volumes))
    rows: list[dict[str, Any]] = []
    for phase, result in results.items():
        if phase in written:
            rows += _write(folder, case, work, names[phase], result, volumes[phase], phase)
        else:  # its volumes show how the choice was made
            rows += _rows(case, names[phase], result, work)
    return rows


def _end_systole(voxels: Mapping[int, int], name: str, case: Case) -> int:
    """The phase after the first in which the structure is smallest, but there."""
    later = {phase: count for phase, count in voxels.items() if phase > 0 and count > 0}
    if not later:
        raise UserError(
            f"{case.source}: expected a {name} to tell end-systole by, found none; name the phases with --phases"
        )
    return min(later, key=lambda phase: later[phase])


def _rows(case: Case, phase: str, result: Result, work: Work) -> list[dict[str, Any]]:
    names = {c: segment.name for c, segment in work.segments.by_class.items()}
    return volume_rows(case.name, phase, result.labels, result.affine, names, result.disagreement)


def _write(
    folder: Path,
    case: Case,
    work: Work,
    name: str,
    result: Result,
    volume: DicomVolume | None,
    phase: int | None = None,
) -> list[dict[str, Any]]:
    """Write the maps of one image, and return its volumes."""
    start = f"{name}_" if name else ""
    if "nifti" in work.formats:
        write_map(folder / f"{start}labels.nii.gz", result.labels, result.affine)
    for what, values in (("probabilities", result.probabilities), ("disagreement", result.disagreement_map)):
        if values is not None:
            write_map(folder / f"{start}{what}.nii.gz", values, result.affine, scale=1 / 255)
    if "seg" in work.formats and volume is not None:
        about = name if phase is None else f"{name} phase {phase}"
        path = folder / f"{start}segmentation.dcm"
        absent = write_segmentation(path, result.labels, volume, work.segments.by_class, work.algorithm, about)
        if absent:
            nothing = "" if path.exists() else ": no DICOM SEG is written"
            logger.info("%s%s: found no %s%s", case.source, f", {name}" if name else "", ", ".join(absent), nothing)
    return _rows(case, name, result, work)
