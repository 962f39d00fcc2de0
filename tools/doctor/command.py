"""`python -m tools doctor`: what a data set holds, and what is wrong with it, in one pass over its files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from scripts.errors import UserError
from scripts.files import replacing, write_json

from .findings import SEVERITIES, exit_code, listed

MOST = 5  # lines of one kind that are printed; the files have all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--dataset", required=True, type=Path, help="folder with a datalist.json, or such a file")
    parser.add_argument(
        "--split", type=Path, help="split file; default: split.json beside the datalist, if there is one"
    )
    parser.add_argument("--percent", type=float, help="share of the training patients that must have a label")
    parser.add_argument("--output", type=Path, help="folder for doctor.json and doctor.html, which have every finding")
    parser.add_argument("--workers", type=int, default=2, help="cases read at once (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Look at the data set, print what is wrong, and write it where asked to.

    Returns:
        0: nothing to worry about; 1: warnings; 2: errors.

    Raises:
        UserError: no datalist, or numbers that cannot be.
    """
    from tqdm import tqdm

    from .examine import examine
    from .page import page

    if args.workers < 1:
        raise UserError(f"--workers: expected 1 or more, found {args.workers}")
    datalist = args.dataset / "datalist.json" if args.dataset.is_dir() else args.dataset
    split = args.split or datalist.with_name("split.json")
    split = split if args.split or split.is_file() else None
    with tqdm(unit=" cases", disable=not sys.stderr.isatty()) as bar:
        findings, fingerprint = examine(datalist, split, args.percent, args.workers, bar.update)
    for line in listed(findings, MOST):
        print(line)
    counts = Counter(finding.severity for finding in findings)
    print(f"{datalist}: {fingerprint['cases']} cases looked at, " + ", ".join(f"{counts[s]} {s}s" for s in SEVERITIES))
    if args.output is not None:
        write_json(args.output / "doctor.json", {"findings": [*map(asdict, findings)], "fingerprint": fingerprint})
        with replacing(args.output / "doctor.html", "the page") as partial:
            partial.write_text(page(findings, fingerprint), encoding="utf-8")
        print(f"wrote {args.output / 'doctor.html'} and doctor.json")
    return exit_code(findings)
