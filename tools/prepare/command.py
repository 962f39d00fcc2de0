"""`python -m tools prepare DATASET`: check a downloaded data set and write its datalist; the files stay in place."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from scripts.errors import UserError, did_you_mean
from scripts.files import write_json

from ..common.case_files import datalist, describe
from ..common.findings import Findings

LAYOUTS = ("acdc", "synapse", "amos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help=f"layout of the download: {', '.join(LAYOUTS)}")
    parser.add_argument("--source", type=Path, required=True, help="folder of the unpacked download; only read")
    parser.add_argument("--output", type=Path, required=True, help="folder for datalist.json: the new dataset_dir")
    parser.add_argument(
        "--allow-unlabelled", action="store_true", help="accept patients without any label, to train on as unlabelled"
    )


def run(args: argparse.Namespace) -> int:
    """Write OUTPUT/datalist.json.

    Raises:
        UserError: an unknown data set, or everything that is wrong with the files; nothing is written then.
    """
    if args.dataset not in LAYOUTS:
        raise UserError(f"unknown data set {args.dataset!r}; {did_you_mean(args.dataset, LAYOUTS)}")
    layout = importlib.import_module(f"tools.prepare.layouts.{args.dataset}")
    findings = Findings()
    cases = layout.collect(args.source, args.output, args.allow_unlabelled, findings)
    findings.raise_before_writing(args.source)
    content = datalist(layout.NAME, layout.MODALITY, layout.LABELS, cases)
    target = args.output / "datalist.json"
    write_json(target, content)
    print(describe(content))
    for note in findings.notes:
        print(f"  note: {note}")
    print(f"wrote {target}")
    return 0
