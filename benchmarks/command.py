"""`python -m benchmarks`: time and memory of the same work done in several ways, side by side, as JSON and a table."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.errors import UserError
from scripts.files import write_json
from scripts.settings import expect_at_least, expect_one_of
from tools.common.checkout import checkout

from . import SUBJECTS
from .gpu import SUBJECTS as ON_GPU
from .jobs import Job, load_jobs
from .measuring import BenchError, measure
from .reports import machine, table, versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for what a GPU does (default: %(default)s)")
    names = f"some of {','.join(SUBJECTS)}, with cuda of {','.join(ON_GPU)} (default: all)"
    parser.add_argument("--only", metavar="SUBJECTS", help=names)
    parser.add_argument("--repeats", type=int, default=3, help="rounds that are timed (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the file; 1 if a variant failed or variants of a job disagree.

    Such a job has no numbers, only its error in the file. The others go on: they took their time, too.

    Raises:
        UserError: mistakes in the arguments, or a package that is missing.
    """
    known = SUBJECTS if args.device == "cpu" else ON_GPU
    subjects = list(known) if args.only is None else [name.strip() for name in args.only.split(",")]
    for name in subjects:
        expect_one_of("--only", name, known)
    expect_at_least("--repeats", args.repeats, 1)
    if args.output.is_dir():
        raise UserError(f"{args.output}: expected a file to write, found a folder; name a file in it")
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **checkout(),
        "machine": machine(),
        "versions": versions(),
        "repeats": args.repeats,
    }
    if args.device != "cpu":
        from .gpu import command as on_gpu

        return on_gpu.run(args, about, subjects)
    jobs = _jobs([SUBJECTS[name] for name in subjects])
    measured, failed = {}, {}
    for module, job in jobs:
        print(f"{job.name}: {len(job.variants)} variants, {args.repeats} rounds", file=sys.stderr, flush=True)
        try:
            measured[job.name] = measure(module, job, args.repeats)
        except BenchError as error:
            failed[job.name] = str(error)
            print(f"error: {error}", file=sys.stderr, flush=True)
    print(table(measured))
    write_json(args.output, {**about, "jobs": measured, "failed": failed}, "the measurements")
    print(f"wrote {args.output}", file=sys.stderr)
    return 1 if failed else 0


def _jobs(modules: Sequence[str]) -> list[tuple[str, Job]]:
    """The jobs of the modules, with all that they need there, before the first of them takes its minutes."""
    jobs = [(module, job) for module in modules for job in load_jobs(module)]
    for _, job in jobs:
        missing = [name for name in job.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(f"{job.name}: expected the package {', '.join(missing)}, found none; call make setup-dev")
    return jobs
