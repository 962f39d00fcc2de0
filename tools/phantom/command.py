"""`python -m tools phantom`: make a small synthetic data set, with its datalist and its split."""

from __future__ import annotations

import argparse
import gzip
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.errors import UserError
from scripts.files import new_folder, write_json

from ..common.case_files import CaseFiles, build_cases, datalist, describe
from ..common.findings import Findings

ANATOMIES = ("heart", "abdomen")
ROLES = ("train", "validation", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--kind", choices=ANATOMIES, required=True, help="heart: cine MR; abdomen: CT, 13 organs")
    parser.add_argument("--output", type=Path, required=True, help="folder to make: the dataset_dir to train on")
    parser.add_argument("--cases", type=int, default=20, help="training patients (default: %(default)s)")
    parser.add_argument("--labelled", type=int, default=2, help="those that get a label (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=4, help="validation patients (default: %(default)s)")
    parser.add_argument("--test", type=int, default=4, help="test patients (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="voxels; the field of view in mm stays (default: 128 128 10 for heart, 96 96 64 for abdomen)",
    )
    parser.add_argument(
        "--percent",
        type=float,
        default=10.0,
        help="percentage under which split.json lists the labelled patients, beside their true one: what a bundle's "
        "`percent` asks for (default: %(default)g)",
    )
    parser.add_argument(
        "--channels",
        type=int,
        choices=(1, 2),
        default=1,
        help="images of a case; 2: another contrast of the same scan, too (default: %(default)s)",
    )
    parser.add_argument("--dicom", action="store_true", help="write test patients as DICOM series, too: OUTPUT/dicom/")


def run(args: argparse.Namespace) -> int:
    """Make the data set, print what it holds and where it is."""
    content = make_phantom(
        args.kind,
        args.output,
        cases=args.cases,
        labelled=args.labelled,
        validation=args.validation,
        test=args.test,
        size=args.size,
        seed=args.seed,
        percent=args.percent,
        dicom=args.dicom,
        channels=args.channels,
    )
    print(describe(content))
    print(f"wrote {args.output / 'datalist.json'} and {args.output / 'split.json'}")
    return 0


def make_phantom(
    kind: str,
    output: Path,
    cases: int = 20,
    labelled: int = 2,
    validation: int = 4,
    test: int = 4,
    size: Sequence[int] | None = None,
    seed: int = 0,
    percent: float = 10.0,
    dicom: bool = False,
    channels: int = 1,
) -> dict[str, Any]:
    """Make a data set in the folder `output`: images/, labels/, datalist.json, split.json; or nothing, after an error.

    Args:
        kind: one of ANATOMIES.
        output: folder that does not exist yet, or is empty.
        cases: training patients.
        labelled: how many of the training patients, the first ones, have a label file.
        validation, test: patients of these roles, all with labels.
        size: voxels; the anatomy's own default if None.
        seed: of everything random. A patient depends on it, on its role and on its number only, so that a longer list
            begins with the patients of a shorter one.
        percent: percentage under which the split lists the labelled patients, beside their true one.
        dicom: write the test patients as DICOM series, too, in dicom/PATIENT/; the phases of a heart as one cine.
        channels: 2 writes images/CASE_0000.nii.gz, what 1 writes, and CASE_0001.nii.gz, another contrast of it.

    Returns:
        The content of datalist.json.

    Raises:
        UserError: numbers that make no data set, or an `output` that holds something.
    """
    anatomy = importlib.import_module(f"tools.phantom.{kind}")
    counts = dict(zip(ROLES, (cases, validation, test), strict=True))
    size = tuple(size or anatomy.SIZE)
    _check(output, counts, labelled, size, anatomy.SMALLEST, seed, percent)
    if dicom and channels > 1:
        raise UserError("--dicom: expected without --channels 2, since a series has one image per place; leave one out")
    patients = _patients(kind, counts)
    target = Path(os.path.abspath(output))
    with new_folder(target) as partial:
        for part in ("images", "labels"):
            (partial / part).mkdir()
        findings = Findings()
        records: list[dict[str, Any]] = []
        for code, role in enumerate(ROLES):
            for number, patient in enumerate(patients[role]):
                with_label, own = role != "train" or number < labelled, [seed, code, number]
                records += _write_patient(anatomy, patient, size, own, with_label, partial, findings, channels)
        findings.raise_before_writing(partial)
        content = datalist(anatomy.NAME, anatomy.MODALITY, anatomy.LABELS, records)
        if dicom:
            _write_dicom(partial, anatomy.MODALITY, patients["test"], records)
        write_json(partial / "datalist.json", content)
        write_json(partial / "split.json", _split(patients, labelled, percent))
    return content


def _check(
    output: Path,
    counts: dict[str, int],
    labelled: int,
    size: Sequence[int],
    smallest: Sequence[int],
    seed: int,
    percent: float,
) -> None:
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output}: expected a new or empty folder, found files in it; choose another, or remove it")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a new or empty folder, found a file; choose another")
    if not 1 <= labelled <= counts["train"]:
        raise UserError(f"--labelled: expected 1 to {counts['train']} (--cases), found {labelled}; change either")
    if min(counts.values()) < 0:
        raise UserError(f"--validation, --test: expected 0 or more, found {counts['validation']} and {counts['test']}")
    if any(voxels < least for voxels, least in zip(size, smallest, strict=True)):
        least = " ".join(map(str, smallest))
        raise UserError(f"--size: expected at least {least} voxels, found {' '.join(map(str, size))}; enlarge it")
    if seed < 0:
        raise UserError(f"--seed: expected 0 or more, found {seed}")
    if not 0 < percent <= 100:
        raise UserError(f"--percent: expected a number above 0 and at most 100, found {percent:g}")


def _patients(kind: str, counts: dict[str, int]) -> dict[str, list[str]]:
    """Names by role, numbered through."""
    names = iter([f"{kind}{number:03d}" for number in range(1, sum(counts.values()) + 1)])
    return {role: [next(names) for _ in range(count)] for role, count in counts.items()}


def _write_patient(
    anatomy: Any,
    patient: str,
    size: Sequence[int],
    seed: list[int],
    with_label: bool,
    root: Path,
    findings: Findings,
    channels: int,
) -> list[dict[str, Any]]:
    """Draw and save one patient; the records are read back from the files, as `prepare` reads those of others."""
    affine = np.diag([*np.multiply(anatomy.ORIENTATION, anatomy.spacing(size)), 1.0])
    records = []
    for phase, values, label in anatomy.draw(size, np.random.default_rng(seed)):
        case = f"{patient}_{phase}" if phase else patient
        label_file = root / "labels" / f"{case}.nii.gz"
        first, *further = [
            root / "images" / f"{case}{end}.nii.gz" for end in (["_0000", "_0001"] if channels > 1 else [""])
        ]
        _save(first, values, affine)
        for file in further:
            _save(file, _other_contrast(values, np.random.default_rng([*seed, 1])), affine)
        if with_label:
            _save(label_file, label, affine)
        files = CaseFiles(case, patient, first, label_file if with_label else None, phase, further=tuple(further))
        records += build_cases([files], anatomy.LABELS, root, findings)
    return records


def _other_contrast(values: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """The same voxels as another sequence might show them: bright is dark, in another order, with noise of its own."""
    low, high = np.percentile(values, (1, 99))
    share = np.clip((values - low) / (high - low), 0, 1)
    other = 1000 * np.sin(np.pi * (0.25 + 0.75 * share)) + rng.normal(0, 25, values.shape)
    return np.round(other.clip(0)).astype(np.int16)


def _save(path: Path, values: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Save NIfTI without the time of writing in gzip's header: same volume, same bytes."""
    path.write_bytes(gzip.compress(nib.Nifti1Image(values, affine).to_bytes(), compresslevel=5, mtime=0))


def _write_dicom(root: Path, modality: str, patients: Sequence[str], records: Sequence[dict[str, Any]]) -> None:
    from .dicom import write_series

    for patient in patients:
        images = [nib.nifti1.load(root / record["image"]) for record in records if record["patient"] == patient]
        volumes = [np.asarray(image.dataobj) for image in images]
        write_series(root / "dicom" / patient, volumes, images[0].affine, modality, patient)


def _split(patients: dict[str, list[str]], labelled: int, percent: float) -> dict[str, Any]:
    share = 100 * labelled / len(patients["train"])
    chosen = patients["train"][:labelled]
    source = f"phantom; {labelled} of {len(patients['train'])} training patients ({share:.4g} %) have labels"
    return {"source": source, **patients, "labelled": {f"{key:.10g}": chosen for key in sorted({share, percent})}}
