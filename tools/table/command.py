"""`python -m tools table`: what a comparison has measured, in the layout of the published tables and beside them."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.errors import UserError
from scripts.files import replacing

from ..compare.tuning import PUBLISHED, TUNED
from .formats import FORMATS, run_list
from .layout import lay_out
from .published import read_published
from .results import BEST, LAST, ROLES, collect
from .statistics_formats import STATISTICS

RUNS = "runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --output of `python -m tools compare`")
    parser.add_argument(
        "--format",
        choices=(*FORMATS, *STATISTICS, RUNS),
        default="markdown",
        help="statistics: intervals, paired tests and the stability of the ranking, as Markdown or CSV; runs: a CSV "
        "file with a line per run and class, not a table (default: %(default)s)",
    )
    parser.add_argument(
        "--against",
        metavar="METHOD",
        help="the method that the statistics compare every other one with (default: dca, or the best without it)",
    )
    parser.add_argument(
        "--arm",
        choices=(PUBLISHED, TUNED),
        help="of a comparison with --tune: the settings to show (default: both; statistics are of the tuned)",
    )
    parser.add_argument("--output", type=Path, help="file to write; without it the table is printed")
    parser.add_argument("--on", choices=ROLES, help="which set (default: test if every run was scored on it)")
    parser.add_argument(
        "--checkpoint",
        choices=(BEST, LAST),
        default=BEST,
        help="best: the one that validation chose; last: the one at the end of the training, on the validation set "
        "(default: %(default)s)",
    )
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
        UserError: no scores, scores of runs that were not made alike, or --against with no statistics or no method.
    """
    if args.against is not None and args.format not in STATISTICS:
        raise UserError(
            f"--against: expected --format {' or '.join(STATISTICS)} beside it, found --format {args.format}; add it"
        )
    results = collect(args.folder, args.on, args.scores, args.checkpoint)
    if args.arm is not None or args.format in STATISTICS:
        arm = results.arms[-1] if args.arm is None else args.arm
        if arm not in results.arms:
            raise UserError(f"--arm {arm}: expected a comparison with --tune, found none in {args.folder}; go without")
        results = results.of_arm(arm)
    if args.format == RUNS:
        text = run_list(results)
    else:
        table = lay_out(results, read_published(), args.scores)
        if args.format in STATISTICS:
            text = STATISTICS[args.format](results, table, args.scores, args.against)
        else:
            text = FORMATS[args.format](table)
    if args.output is None:
        print(text, end="")
        return 0
    with replacing(args.output, "a table") as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"wrote {args.output}")
    return 0
