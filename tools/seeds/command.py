"""`python -m tools seeds`: mean and standard deviation of the scores of runs that differ in their seed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.errors import UserError
from scripts.scoring.tables import over_seeds, read_scores_csv, text_table, write_scores_csv

PREFIX = "scores_"  # of the files per case and class that `evaluating` writes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "runs",
        metavar="RUN_DIR",
        nargs="+",
        type=Path,
        help=f"folder with the {PREFIX}*.csv of an evaluation, one for each seed",
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")


def run(args: argparse.Namespace) -> int:
    """Write the CSV file and print a table for each kind of scores that the evaluations wrote.

    The file has the columns of `over_seeds` after "scores", the kind: native_mm for scores_native_mm.csv.

    Raises:
        UserError: a folder without scores or given twice, or runs that were not evaluated alike.
    """
    tables = {}
    for kind in _kinds(args.runs):
        files = [folder / f"{PREFIX}{kind}.csv" for folder in args.runs]
        tables[kind] = over_seeds({str(file): read_scores_csv(file) for file in files})
    rows = [{"scores": kind} | row for kind, table in tables.items() for row in table]
    columns = dict.fromkeys(column for row in rows for column in row)  # kinds may differ in their metrics
    write_scores_csv(args.output, [{column: row.get(column, "") for column in columns} for row in rows])
    for kind, table in tables.items():
        about = table[0]
        print(
            f"{kind}: mean (population standard deviation) over {about['seeds']} seeds; {about['cases']} cases, "
            f"distances in {about['unit']}, empty masks by policy {about['policy']}\n{text_table(table)}"
        )
    print(f"wrote {args.output}")
    return 0


def _kinds(runs: Sequence[Path]) -> list[str]:
    """What stands for * in the runs' scores_*.csv."""
    places = [folder.resolve() for folder in runs]
    twice = {str(folder) for folder, place in zip(runs, places, strict=True) if places.count(place) > 1}
    if twice:
        raise UserError(f"{', '.join(sorted(twice))}: expected each run once, found it twice; give one folder per seed")
    found = {folder: {path.stem.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*.csv")} for folder in runs}
    kinds = sorted(set().union(*found.values()))
    for kind in kinds or ["*"]:
        without = [str(folder) for folder in runs if kind not in found[folder]]
        if without:
            raise UserError(
                f"{', '.join(without)}: expected {PREFIX}{kind}.csv, found none; "
                "give the folders that `evaluating` wrote to (its output_dir)"
            )
    return kinds
