"""The files of a folder: which of them are volumes, and what keeps the others from being read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath

from scripts.data.checks import NIFTI
from scripts.errors import first_few, printable

from ...common.findings import Findings

ITK = "convert them with SimpleITK (WriteImage(ReadImage(FILE), NAME.nii.gz)) or 3D Slicer"
DICOM = "convert each series with dcm2niix -z y"
PICTURES = "stack the slices of a case into one NIfTI volume of grey values"
ARRAYS = "save them with nibabel, with the spacing in the affine"
MOST_LINES = 5
FOREIGN = {
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img", ".mgz", ".mgh", ".mnc", ".gipl"), ITK),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), DICOM),
    **dict.fromkeys((".npy", ".npz", ".h5", ".hdf5"), ARRAYS),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), PICTURES),
}


def is_nifti(path: PurePath) -> bool:
    """Whether a file is NIfTI by its name."""
    return path.name.lower().endswith(NIFTI)


def stem(path: PurePath) -> str:
    """The name of a NIfTI file without its ending."""
    ending = next((ending for ending in reversed(NIFTI) if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def shown(path: PurePath) -> str:
    """A path as part of a message; a name may hold anything."""
    return printable(str(path), 300)


def first_files(files: Collection[Path]) -> str:
    """Some names of files as part of a message."""
    return first_few([printable(file.name) for file in files], 3)


def tell(paths: Sequence[Path], expected: str, found: str, fix: str, findings: Findings) -> None:
    """Put the same problem of some files into `findings`: a line each of a few, one line in all of many."""
    if len(paths) <= MOST_LINES:
        for path in paths:
            findings.add(path, expected, found, fix)
    else:
        folder = Path(os.path.commonpath(paths))
        findings.add(folder, f"{expected} for each file", f"{found} for {len(paths)} ({first_files(paths)})", fix)


def find_volumes(folder: Path, what: str, findings: Findings, apart: Collection[Path] = ()) -> list[Path]:
    """The NIfTI files at any depth of a folder, sorted; links to folders are followed, hidden files passed over.

    Args:
        folder: where to look.
        what: what should be there, for the messages.
        findings: takes links to nowhere and files of other formats, a problem per format.
        apart: folders below it that are left out.
    """
    if not os.path.isdir(folder):  # unlike Path's, False of a name that no disk can hold
        found = "a file" if os.path.exists(folder) else "no such folder"
        findings.add(folder, f"a folder of {what}", found, "correct the path")
        return []
    volumes: list[Path] = []
    foreign: dict[str, list[Path]] = {}
    lost: dict[str, list[Path]] = {}
    for path in _walk(folder, {os.path.realpath(one) for one in apart}, findings):
        ending = path.suffix.lower()
        if is_nifti(path):
            if path.is_file():
                volumes.append(path)
            else:
                lost.setdefault("a link to nowhere" if path.is_symlink() else "something else", []).append(path)
        elif ending in FOREIGN:
            foreign.setdefault(ending, []).append(path)
        elif _is_dicom(path):
            foreign.setdefault(".dcm", []).append(path)
    for found, files in lost.items():
        tell(files, "a NIfTI file", found, "restore the files, or remove these names", findings)
    for ending, files in sorted(foreign.items()):
        if volumes and FOREIGN[ending] == PICTURES:  # previews
            findings.note(f"{shown(folder)}: {len(files)} pictures ({ending}) are passed over")
            continue
        kind = "DICOM" if FOREIGN[ending] == DICOM else ending
        found = f"{len(files)} files of another format, {kind} ({first_files(files)})"
        findings.add(folder, f"{what} as NIfTI (.nii, .nii.gz)", found, f"{FOREIGN[ending]}, or take them away")
    return sorted(volumes)


def _walk(folder: Path, apart: Collection[str], findings: Findings) -> Iterator[Path]:
    def told(error: OSError) -> None:
        findings.add(Path(error.filename), "a folder that can be read", str(error.strerror), "have it permitted")

    for here, folders, names in os.walk(folder, followlinks=True, onerror=told):
        above = {os.path.realpath(part) for part in (Path(here), *Path(here).parents)}  # where a link may lead back to
        inner = {name: os.path.realpath(Path(here, name)) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, real in inner.items() if real not in above and real not in apart]
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _is_dicom(path: Path) -> bool:
    """Whether a file without an ending, or with numbers for one, is DICOM by its content."""
    if path.suffix.strip(".0123456789") or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
