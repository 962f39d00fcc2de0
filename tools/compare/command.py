"""`python -m tools compare`: train methods alike, one run per method and seed, and score the checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.errors import UserError

from ..common.arguments import add_executor_arguments, read_pairs, slurm_parameters
from ..common.gpus import gpus_for
from ..common.stopping import STOPPED, ends_like_an_interrupt
from .executors import run_here, run_on_cluster
from .plan import plan
from .progress import Progress
from .request import Request, choose_methods, find_bundle, read_seeds
from .state import FAILED, LOG, QUEUED, Run, held, is_finished, now, read_state, write_state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--bundle", required=True, help="bundle to train, such as dca_acdc")
    parser.add_argument(
        "--methods",
        required=True,
        help='names such as "supervised,cps,dca"; "all" methods, all "variants", "fully_supervised" (labels only, '
        'with 100 %% of them), "supervised_4" (labels only, 4 labelled images a step)',
    )
    parser.add_argument("--dataset_dir", required=True, type=Path, help="data set with its datalist.json")
    parser.add_argument("--output", required=True, type=Path, help="folder of the comparison; a run is METHOD/seedN")
    parser.add_argument("--percent", type=float, help="share of the training patients that are labelled")
    parser.add_argument("--seeds", default="0", help='such as "0,1,2" (default: %(default)s)')
    parser.add_argument("--preset", help="preset of the bundle")
    parser.add_argument("--steps", type=int, help="length of each training")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="other settings, for all methods"
    )
    parser.add_argument("--test", action="store_true", help="score the test set of every finished run, once")
    add_executor_arguments(parser, "runs at the same time (default: 1; with slurm all of them)")


def run(args: argparse.Namespace) -> int:
    """Do what is left of the comparison; 1 if a run failed.

    Raises:
        UserError: mistakes in the arguments or the config, other settings than those of the runs that are there, or a
            test set that has been scored.
    """
    slurm = slurm_parameters(args)
    request = _request(args)
    planned = plan(request)
    runs = planned.runs
    todo = [one for one in runs if one not in planned.impossible and not is_finished(read_state(one.folder), args.test)]
    for note in planned.notes:
        print(f"note: {note}")
    _tell_scored([one for one in runs if args.test and "test" in read_state(one.folder)], bool(todo), args.output)
    over = len(runs) - len(planned.impossible) - len(todo)
    impossible = f", {len(planned.impossible)} impossible" if planned.impossible else ""
    print(f"{len(runs)} runs in {args.output}: {over} finished, {len(todo)} to do{impossible}", flush=True)
    for one in todo:
        with held(one.folder) as lock:
            if lock is not None:
                write_state(one.folder, state=QUEUED, queued=now(), error=None, finished=None)
    progress = Progress(runs, todo)
    try:
        with ends_like_an_interrupt():
            if args.executor == "slurm":
                run_on_cluster(todo, args.test, args.workers or len(todo), progress, request.output, slurm)
            else:
                workers = args.workers or 1
                with gpus_for(min(workers, len(todo)), request.overrides, args.mps) as gpus:
                    run_here(todo, args.test, workers, progress, gpus=gpus)
    except KeyboardInterrupt:
        progress.close()
        submitted = " (submitted jobs go on by themselves)" if args.executor == "slurm" else ""
        print(f"\nstopped; the same command goes on{submitted}")
        return STOPPED
    finally:
        progress.close()
    return _report(runs, args)


def _tell_scored(scored: Sequence[Run], more: bool, output: Path) -> None:
    """Say which test sets are not scored again; it is a mistake to ask for nothing else."""
    if scored and not more:
        at = read_state(scored[0].folder)["test"]["at"]
        raise UserError(
            f"--test: expected a run whose test set has not been scored, found none; it is scored once, and was {at}: "
            f"see `python -m tools table {output}`"
        )
    for one in scored:
        print(f"{one}: its test set has been scored and is not scored again")


def _request(args: argparse.Namespace) -> Request:
    return Request(
        bundle=find_bundle(args.bundle),
        data=args.dataset_dir.resolve(),
        output=args.output.resolve(),
        methods=choose_methods(args.methods),
        seeds=read_seeds(args.seeds),
        percent=args.percent,
        preset=args.preset,
        steps=args.steps,
        overrides=read_pairs(args.set, "--set"),
        test=args.test,
    )


def _report(runs: Sequence[Run], args: argparse.Namespace) -> int:
    """Name what failed and what others work on; 1 if something failed."""
    failed = [run for run in runs if read_state(run.folder).get("state") == FAILED]
    for one in runs:
        if one not in failed and not is_finished(read_state(one.folder), args.test):
            print(f"left alone: {one}: another process works on it; when that has ended, the same command goes on")
    for one in failed:
        log = one.folder / LOG
        print(f"failed: {one}: {read_state(one.folder).get('error')}" + (f"; see {log}" if log.is_file() else ""))
    if any("validation" in read_state(run.folder) for run in runs):
        print(f"the table: python -m tools table {args.output}")
    return int(bool(failed))
