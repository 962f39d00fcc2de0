"""The files that a config needs: data set, datalist, split, images, labels, checkpoints; and the labels in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from scripts.data.channels import count_fault, files_of
from scripts.data.checks import nifti_fault
from scripts.data.datalists import Split, images_in_two_roles, patients_by_role, read_datalist
from scripts.errors import UserError, first_few
from scripts.validation import read_valid

from ..common.config import SEPARATOR
from ..common.findings import Findings
from .values import Values

Case = Mapping[str, Any]
ROLES = ("labelled", "unlabelled", "validation", "test")
LEAST_VOXELS = 8  # of a class: two along each axis
# Components that read a checkpoint, and their argument that names it.
CHECKPOINT_READERS = {
    "scripts.checkpoints.load_predictor": "path",
    "scripts.inference.evaluator.CheckpointLoader": "path",
    "CheckpointLoader": "load_path",
}


@dataclass
class Cases:
    """The cases of each role and the classes, as a datalist and a split file give them.

    datalist: the file, whose folder the cases' paths start from.
    labels: names of the foreground classes by id.
    """

    datalist: Path
    labels: dict[int, str]
    roles: dict[str, list[Case]]

    def paths(self, role: str, key: str) -> list[Path]:
        """The files of a role's cases: their "image" or "label"."""
        return [self.datalist.parent / file for case in self.roles[role] if key in case for file in files_of(case[key])]

    def patients(self, role: str) -> int:
        """The number of a role's patients."""
        return len({case.get("patient") for case in self.roles[role]})


def check_files(values: Values, findings: Findings) -> None:
    """Find a missing data set folder, missing images to infer on, and missing checkpoints."""
    folder = values.get("dataset_dir", str)
    used = values.config.references.get("dataset_dir")  # not where images to infer on are listed one by one
    if folder is not None and used and not Path(folder).exists():
        fix = "make one with `python -m tools prepare` or `phantom`, or pass --dataset_dir"
        findings.problem("dataset_dir", f"expected the folder of a data set, found no {folder}; {fix}")
    listed = values.get("datalist", list) or []
    missing = [path for path in listed if isinstance(path, str) and not Path(path).is_file()]
    if missing:
        findings.problem("datalist", f"expected images, found no {first_few(missing)}; correct the paths")
    for item_id, component in values.config.components():
        target = str(component["_target_"])
        checkpoint_id = f"{item_id}{SEPARATOR}{CHECKPOINT_READERS.get(target, '')}"
        checkpoint = values.get(checkpoint_id, str) if target in CHECKPOINT_READERS else None
        if checkpoint is not None and not Path(checkpoint).is_file():
            where = values.origin(checkpoint_id)
            findings.problem(where, f"expected a checkpoint, found no {checkpoint}; train first, or pass another")
        images = values.get(f"{item_id}{SEPARATOR}source", str)
        if target == "scripts.inference.images.find_images" and images is not None and Path(images).is_dir():
            patterns = ("datalist.json", "**/*.nii", "**/*.nii.gz")
            if not any(next(Path(images).glob(pattern), None) for pattern in patterns):
                findings.problem(item_id, f"expected NIfTI images or a datalist.json, found none in {images}")


def read_cases(values: Values, findings: Findings) -> Cases | None:
    """The cases of the config's `Split`, or None if there is none, or its files cannot be used."""
    split_id = next((i for i, c in values.config.components() if c["_target_"] == "scripts.data.datalists.Split"), None)
    if split_id is None:
        return None
    datalist_file, split_file = (values.get(f"{split_id}{SEPARATOR}{key}", str) for key in ("datalist", "split"))
    percent = values.get(f"{split_id}{SEPARATOR}percent", object)
    if datalist_file is None or split_file is None:
        return None
    datalist = None
    folder = values.get("dataset_dir", str)
    if folder is None or Path(folder).exists() or not Path(datalist_file).is_relative_to(folder):
        datalist = _read(read_datalist, datalist_file, findings)
    try:
        patients = patients_by_role(split_file, cast(float, percent))
    except UserError as error:
        findings.error(error)
        return None
    if datalist is None:
        return None
    cases = Cases(Path(datalist_file), _classes(datalist.get("labels", {})), _by_role(datalist["cases"], patients))
    before = len(findings.problems)
    _check_roles(cases, patients, split_file, findings)
    _check_channels(cases, values.get("in_channels", int) or 1, findings)
    if len(findings.problems) == before:  # else what depends on the split would fail, too
        split = Split(datalist_file, split_file, cast(float, percent))
        split.update({role: [dict(case) for case in found] for role, found in cases.roles.items()})
        values.give(split_id, split)
    return cases


def _read(read: Callable[[str], dict[str, Any]], path: str, findings: Findings) -> dict[str, Any] | None:
    try:
        return read(path)
    except UserError as error:
        findings.error(error)
        return None


def _by_role(cases: Iterable[Case], patients: Mapping[str, Sequence[str]]) -> dict[str, list[Case]]:
    by_patient: dict[Any, list[Case]] = {}
    for case in cases:
        by_patient.setdefault(case["patient"], []).append(case)
    return {role: [case for name in names for case in by_patient.get(name, [])] for role, names in patients.items()}


def _check_channels(cases: Cases, channels: int, findings: Findings) -> None:
    """Compare the images with `in_channels`: the number of files, and of a single one its fourth axis."""
    for role, found in cases.roles.items():
        files = {case["id"]: [cases.datalist.parent / file for file in files_of(case["image"])] for case in found}
        odd = {name: own for name, own in files.items() if count_fault(own, channels)}
        if channels > 1:
            single = {name: own[0] for name, own in files.items() if len(own) == 1 and own[0].is_file()}
            odd |= {name: [path] for name, path in single.items() if nifti_fault(path, channels=channels)}
        if odd:
            counts = first_few([f"{len(own)} file{'s' if own[1:] else ''} of {name}" for name, own in odd.items()])
            text = f"expected {channels} channel{'s' if channels > 1 else ''} (in_channels) of every {role} case"
            findings.problem(
                str(cases.datalist), f"{text}, found {counts}; list a file per channel, or set in_channels"
            )


def _check_roles(cases: Cases, patients: Mapping[str, Sequence[str]], split_file: str, findings: Findings) -> None:
    where = str(cases.datalist)
    for role, names in patients.items():
        present = {case.get("patient") for case in cases.roles[role]}
        absent = [name for name in names if name not in present]
        if absent and role == "test":
            findings.note(f"{where} lacks {len(absent)} of {len(names)} test patients of {split_file}")
        elif absent:
            found = f"found no {first_few(absent)}; prepare the whole data set, or pass --split_file"
            findings.problem(where, f"expected the {role} patients of {split_file}, {found}")
        unlabelled = [case.get("id") for case in cases.roles[role] if role != "unlabelled" and "label" not in case]
        if unlabelled:
            findings.problem(where, f"expected a label for every {role} case, found none for {first_few(unlabelled)}")
        for key in ("image",) if role == "unlabelled" else ("image", "label"):
            missing = [path for path in cases.paths(role, key) if not path.is_file()]
            if missing:
                text = f"expected the {key} of every {role} case, found no {first_few(missing)}"
                findings.problem(where, f"{text}; restore the files or prepare the data set again")
    if shared := images_in_two_roles(cases.roles, cases.datalist.parent):
        findings.problem(
            where, f"expected every image in one role of {split_file}, found {first_few(shared)} with the same one"
        )


def _classes(names: Mapping[str, Any]) -> dict[int, str]:
    """The foreground classes of a mapping like {"0": "background", "1": "liver"}."""
    return {int(key): str(name) for key, name in names.items() if str(key).isdigit() and int(key) > 0}


def check_labels(values: Values, cases: Cases | None, metadata: Path, findings: Findings) -> None:
    """Compare the classes of config, datalist, metadata and labelled voxels with each other."""
    count = values.get("num_classes", int)
    names = values.get("labels", dict)
    named = _classes(names) if names else None
    if count is not None and named is not None and sorted(named) != list(range(1, count + 1)):
        text = f"expected a name for each of the classes 1..{count} (num_classes), found {_listed(named)}"
        findings.problem("labels", text)
    if metadata.is_file():
        content = _read(lambda path: read_valid(path, "metadata", "metadata", "correct it"), str(metadata), findings)
        if content is not None:
            outputs = content["network_data_format"]["outputs"]["pred"]
            _compare(_classes(outputs["channel_def"]), named, count, f"{metadata}: channel_def", findings)
    if cases is None:
        return
    _compare(cases.labels, named, count, f"{cases.datalist}: labels", findings)
    voxels = labelled_sizes(cases)
    for case in [case for role in ROLES if role != "unlabelled" for case in cases.roles[role]]:
        found = [key for key, number in _voxels(case).items() if number and count and key > count]
        if found:
            text = f"expected labels 0..{count} (num_classes), found {first_few(found)} in {case.get('id')}"
            findings.problem(str(cases.datalist), text)
    for key in range(1, (count or 0) + 1):
        if voxels and not voxels.get(key):
            findings.note(f"class {key} has no voxel in any labelled case: nothing can be learnt about it")
    for key, number in _most_after_resampling(values, cases).items():
        if 0 < number < LEAST_VOXELS:
            findings.note(
                f"class {key} has about {number:.2g} voxels on the network's grid, in the labelled case with the most: "
                "resampling may lose it; take a finer `spacing` or a larger `image_size`"
            )


def _most_after_resampling(values: Values, cases: Cases) -> dict[int, float]:
    """Of each class, its voxels on the network's grid in the labelled case that has the most; empty if not known."""
    spacing, size = values.get("spacing", list), values.get("image_size", list)
    most: dict[int, float] = {}
    for case in cases.roles["labelled"]:
        if spacing and "spacing" in case:
            share = math.prod(case["spacing"]) / math.prod(spacing)
        elif size and "shape" in case:
            share = math.prod(size) / math.prod(case["shape"][:2])
        else:
            continue
        for key, number in _voxels(case).items():
            most[key] = max(most.get(key, 0), number * share)
    return most


def _compare(
    found: Mapping[int, str], named: Mapping[int, str] | None, count: int | None, where: str, findings: Findings
) -> None:
    ids = list(range(1, count + 1)) if count is not None else sorted(named or found)
    if sorted(found) != ids:
        findings.problem(where, f"expected the classes 1..{len(ids)} (num_classes), found {_listed(found)}")
    elif named and sorted(named) == ids and any(found[key].lower() != named[key].lower() for key in ids):
        findings.problem(where, f"expected the names in `labels`, {_listed(named)}, found {_listed(found)}")


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(f"{key} {name}" for key, name in sorted(names.items())) or "none"


def labelled_sizes(cases: Cases, unit: str = "voxels") -> dict[int, float]:
    """Voxels or mm3 of each class over the labelled training cases, by the datalist; empty where it has none."""
    sizes: dict[int, float] = {}
    for case in cases.roles["labelled"]:
        voxel = math.prod(case.get("spacing", ())) if unit == "mm3" else 1
        for key, number in _voxels(case).items():
            sizes[key] = sizes.get(key, 0) + number * voxel
    return sizes


def _voxels(case: Case) -> dict[int, int]:
    return {int(key): int(number) for key, number in case.get("voxels", {}).items() if key.isdigit()}


def read_labels(values: Values, cases: Cases, findings: Findings) -> None:
    """Open every label file of the labelled, validation and test cases, and look at its values."""
    import numpy as np

    from ..common.case_files import read_volume

    count = values.get("num_classes", int, len(cases.labels)) or 0
    for path in [path for role in ROLES if role != "unlabelled" for path in cases.paths(role, "label")]:
        volume = read_volume(path, findings) if path.is_file() else None
        found = np.unique(volume.values).tolist() if volume else []
        wrong = [value for value in found if value not in range(count + 1)]
        if wrong:
            some = first_few([f"{value:g}" for value in wrong])
            findings.problem(str(path), f"expected label values 0..{count} (num_classes), found {some}; correct them")
