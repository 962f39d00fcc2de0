"""`python -m tools new NAME`: a bundle for any data set, out of a folder of scans of which a few have labels."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from scripts.errors import UserError
from scripts.files import new_folder, write_json

from ..common.findings import Findings
from ..common.paths import BUNDLES

if TYPE_CHECKING:
    from .fingerprint import Fingerprint
    from .planning import Decision, Plan
    from .writing import Content

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
BUILT_IN = ("dca_acdc", "dca_amos", "dca_synapse")
SHOWN = 5  # warnings of one kind
NEVER_ACCEPTED = ("image", "label", "leakage")  # the training would fail, or its scores be wrong
FEWEST_STEPS, MOST_STEPS = 100, 30_000
OF_THE_TIME = 0.85  # of the hours for steps; validation, loading and saving take the rest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="of the bundle: small letters, digits and underscores")
    parser.add_argument(
        "--images", required=True, type=Path, help="folder, whole data set, or list (.csv, .json) of images"
    )
    parser.add_argument("--labels", type=Path, help="folder of label maps; default: in --images, or where it says")
    parser.add_argument("--unlabelled", type=Path, help="folder or list of further images without labels")
    parser.add_argument("--classes", type=Path, help='file that names the classes, such as {"1": "liver"}')
    parser.add_argument("--patients", metavar="REGEX", help="whose first group in an image's name is the patient")
    parser.add_argument(
        "--modality", help="CT, MR or another code of DICOM; default: by the channels' names, or intensities"
    )
    parser.add_argument(
        "--dims", type=int, choices=(2, 3), help="segment slices (2) or volumes (3); default: by the scans"
    )
    parser.add_argument(
        "--hours", type=float, help="time of one training on this machine; default: 1,500 or 1,000 steps"
    )
    parser.add_argument("--memory", type=float, help="GiB that a training may take; default: what is free here")
    parser.add_argument("--accept", nargs="+", default=[], metavar="KIND", help="findings that are not to end it")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of validation patients (default: %(default)s)")
    parser.add_argument("--no-trial", action="store_true", help="plan without training a few steps to measure them")
    parser.add_argument(
        "--output", type=Path, default=BUNDLES, help="folder of the bundle's folder (default: bundles/)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the bundle, and say what was decided.

    Raises:
        UserError: all that is wrong with the files, or no plan that this machine can train; nothing is written then.
    """
    target = _target(args)
    with TemporaryDirectory() as scratch:
        content = _read(args, Path(scratch))
        _examine(content, Path(scratch), args.accept)
        return _write(args, target, content, Path(scratch))


def _target(args: argparse.Namespace) -> Path:
    if not NAME.fullmatch(args.name) or args.name in (*BUILT_IN, "scripts", "configs"):
        raise UserError(
            f"NAME: expected small letters, digits and underscores, and no built-in name, found {args.name!r}; "
            "choose another"
        )
    for option in ("hours", "memory"):
        value = getattr(args, option)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{option}: expected a number above 0, found {value:g}")
    target = Path(args.output).resolve() / args.name
    if target.exists():
        raise UserError(f"{target}: expected no such folder yet, found one; remove it, or choose another name")
    return target


def _read(args: argparse.Namespace, scratch: Path) -> Content:
    """Find and read all files; the datalist is in `scratch`, with absolute paths."""
    from ..common.case_files import build_cases, datalist
    from .fingerprint import looks_like_ct
    from .labelling import numbers_in
    from .sources import find_cases
    from .splitting import divide
    from .writing import Content

    findings = Findings()
    source = find_cases(args.images, args.labels, args.unlabelled, args.classes, findings, args.patients)
    findings.raise_before_writing(args.images)
    if source.stacked:
        channels = ", ".join(source.channels)
        raise UserError(f"{args.images}: expected a file for each channel, found {channels} in one; split them")
    divided = divide(source.cases, args.seed)
    names = source.classes or numbers_in([case.label for case in divided.cases if case.label], findings)
    findings.raise_before_writing(args.images)
    _expect_whole(names, args.classes or args.images)
    modality = args.modality or source.modality
    known = modality if modality in ("CT", "MR") else None
    records = build_cases([case.files(known) for case in divided.cases], {0: "background", **names}, scratch, findings)
    findings.raise_before_writing(args.images)
    modality = modality or ("CT" if looks_like_ct(records, scratch) else "MR")
    content = datalist(args.name, modality, {0: "background", **names}, records)
    write_json(scratch / "datalist.json", content)
    write_json(scratch / "split.json", divided.split)
    patients = len({case.patient for case in divided.cases})
    print(f"{source.layout}: {len(divided.cases)} images of {patients} patients; {divided.split['source']}")
    for note in findings.notes:
        print(f"  note: {note}")
    if divided.left_out:
        print(
            f"  note: {len(divided.left_out)} images without a label are left out: their patients have labels on others"
        )
    return Content(args.name, modality, source.channels, names, content, divided.split, divided.percent)


def _expect_whole(names: Mapping[int, str], file: Path) -> None:
    if sorted(names) != list(range(1, len(names) + 1)):
        found = ", ".join(map(str, sorted(names)))
        raise UserError(f"{file}: expected the classes 1, 2, ... without gaps, found {found}; renumber the labels")


def _examine(content: Content, scratch: Path, accepted: Sequence[str]) -> None:
    """The doctor's findings: errors end it, warnings are shown. Copies that train both only count twice: a warning."""
    from tqdm import tqdm

    from ..doctor.examine import examine
    from ..doctor.findings import ERROR, WARNING, listed

    with tqdm(total=len(content.datalist["cases"]), unit=" cases", disable=not sys.stderr.isatty()) as bar:
        found, _ = examine(scratch / "datalist.json", scratch / "split.json", content.percent, 2, bar.update)
    if odd := [kind for kind in accepted if kind in NEVER_ACCEPTED or all(one.kind != kind for one in found)]:
        kinds = ", ".join(sorted({one.kind for one in found} - set(NEVER_ACCEPTED))) or "nothing"
        raise UserError(f"--accept: expected kinds of findings that may be accepted ({kinds}), found {', '.join(odd)}")
    found = [replace(one, severity=WARNING) if one.kind in ("duplicate image", *accepted) else one for one in found]
    for line in listed(found, SHOWN):
        print(line)
    errors = sum(finding.severity == ERROR for finding in found)
    if errors:
        raise UserError(
            f"{content.name}: expected a sound data set, found {errors} errors (above); mend them, or where "
            "one is wrong, say `--accept KIND`; nothing was written"
        )


def _write(args: argparse.Namespace, target: Path, content: Content, scratch: Path) -> int:
    from .fingerprint import fingerprint
    from .pages import write_pages
    from .writing import write_bundle

    found = fingerprint(content.datalist, scratch)
    beside = target.parent == BUNDLES
    planned, more, steps = _plan(args, found, content, scratch)
    with new_folder(target) as folder:
        unknown = write_bundle(folder, content, planned, steps, beside)
        write_pages(folder, content, found, planned, more)
    for one in (*planned.decisions, *more):
        print(f"  {one.what}: {one.value} ({one.why})")
    if unknown:
        print(f"  note: no code of SNOMED CT is known for {', '.join(unknown)}; edit configs/segments.json")
    print(f"wrote {target}; see plan.md there. To train it:")
    print(f"  python -m monai.bundle run training --config_file {target}/configs/train.json --bundle_root {target}")
    return 0


def _plan(
    args: argparse.Namespace, found: Fingerprint, content: Content, scratch: Path
) -> tuple[Plan, list[Decision], int]:
    """A plan that fits into the memory, and the steps that fit into the time, both measured unless told not to."""
    import torch

    from .measuring import GIB, free_memory, measure
    from .planning import LENGTH, Decision, plan, smaller
    from .writing import write_bundle

    device = "cuda" if torch.cuda.is_available() else "cpu"
    planned = plan(found, content.modality, content.channels, device, args.dims)
    steps = LENGTH[planned.dims]
    if args.no_trial:
        why = "as the built-in bundles; nothing was measured"
        return planned, [Decision("steps", str(steps), why, "--steps 5000")], steps
    budget = args.memory * GIB if args.memory else free_memory()
    while True:
        with TemporaryDirectory(dir=scratch) as trial:
            bundle = Path(trial) / content.name
            bundle.mkdir()
            write_bundle(bundle, content, planned, steps, in_checkout=False)
            measured = measure(bundle, content.split, Path(trial) / "run")
        if measured.memory <= budget:
            break
        edge = smaller(planned)
        if edge is None:
            raise UserError(
                f"--memory: expected {measured.memory / GIB:.1f} GiB for the smallest plan, found {budget / GIB:.1f}; "
                "allow more"
            )
        planned = plan(found, content.modality, content.channels, device, args.dims, edge)
    why = f"{measured.seconds:.2g} s a step, measured here"
    if args.hours:
        steps = max(FEWEST_STEPS, min(MOST_STEPS, int(OF_THE_TIME * 3600 * args.hours / measured.seconds)))
        why += f"; {args.hours:g} hours"
    else:
        why += f": about {steps * measured.seconds / OF_THE_TIME / 3600:.2g} hours"
    memory = f"{measured.memory / GIB:.1f} GiB"
    return planned, [
        Decision("steps", str(steps), why, "--steps 5000"),
        Decision("memory", memory, f"measured here; {budget / GIB:.1f} GiB allowed", "new --memory"),
    ], steps  # fmt: skip
