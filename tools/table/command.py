"""`python -m tools table`: what a comparison has measured, in the layout of the published tables and beside them."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.files import replacing

from .formats import FORMATS, run_list
from .layout import lay_out
from .published import read_published
from .results import ROLES, collect

RUNS = "runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --output of `python -m tools compare`")
    parser.add_argument(
        "--format",
        choices=(*FORMATS, RUNS),
        default="markdown",
        help="runs: a CSV file with a line per run and class, not a table (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="file to write; without it the table is printed")
    parser.add_argument("--on", choices=ROLES, help="which set (default: test if every run was scored on it)")
    parser.add_argument(
        "--scores",
        metavar="KIND",
        default="native_mm",
        help="native_mm: the images' own grid, where a missed structure counts; protocol_voxels: the published "
        "protocol's grid, units and rule for empty masks (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the table.

    Raises:
        UserError: no scores, or scores of runs that were not made alike.
    """
    results = collect(args.folder, args.on, args.scores)
    if args.format == RUNS:
        text = run_list(results)
    else:
        text = FORMATS[args.format](lay_out(results, read_published(), args.scores))
    if args.output is None:
        print(text, end="")
        return 0
    with replacing(args.output, "a table") as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"wrote {args.output}")
    return 0
