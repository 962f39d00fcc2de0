"""`python -m tools compare`: train methods alike, one run per method and seed, and score the checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scripts.errors import UserError
from scripts.settings import expect_at_least

from ..common.arguments import add_executor_arguments, read_pairs, slurm_parameters
from ..common.gpus import gpus_for
from ..common.stopping import STOPPED, ends_like_an_interrupt
from .executors import run_here, run_on_cluster
from .plan import Plan, check, complete, plan
from .progress import Progress
from .request import Request, choose_methods, find_bundle, read_seeds
from .state import DONE, FAILED, LOG, QUEUED, TEST, VALIDATION, Run, held, is_finished, now, read_state, write_state
from .timing import Work, in_minutes
from .tuning import (
    AS_PUBLISHED,
    PUBLISHED,
    RECOMMENDED,
    choose,
    expect_other_seeds,
    final_requests,
    plan_trials,
    settled,
    trials_of,
)


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
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length of each training")
    length.add_argument(
        "--minutes",
        type=float,
        help="length of each training as time: every method is timed on this machine first, and has as many steps as "
        "fit; validation does not count",
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="other settings, for all methods"
    )
    parser.add_argument(
        "--tune",
        type=int,
        default=0,
        metavar="N",
        help="try every method with N settings (as recommended, as published, and drawn from its grid), choose by "
        "validation, and train it as published and tuned",
    )
    parser.add_argument(
        "--tune-seeds", default="1000", help="seeds of the trials; --seeds has none of them (default: %(default)s)"
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
    request, seeds = _request(args), _tuning_seeds(args)

    def work(plans: Sequence[Plan], what: str = "", test: bool = False) -> None:
        _work(plans, args, slurm, what, test)

    try:
        with ends_like_an_interrupt():
            plans = _plans(request, args, seeds, work)
            if args.test:
                _tell_scored(plans, args.output)
            work(plans, test=args.test)
    except KeyboardInterrupt:
        submitted = " (submitted jobs go on by themselves)" if args.executor == "slurm" else ""
        print(f"\nstopped; the same command goes on{submitted}")
        return STOPPED
    return _report([run for planned in plans for run in planned.runs], args)


def _plans(request: Request, args: argparse.Namespace, seeds: Sequence[int], work: Work) -> list[Plan]:
    """What the table will show, after the timing and the trials that it takes.

    Raises:
        UserError: see `run`; or trials that another process works on.
    """
    if args.minutes is None and not args.tune:
        return [plan(request)]
    request = complete(request)
    check(request)
    published = replace(request, own=dict.fromkeys(request.methods, AS_PUBLISHED))
    if args.minutes is not None:
        workers = None if args.executor == "slurm" else args.workers or 1
        request = in_minutes(request, RECOMMENDED, workers, work)
        published = in_minutes(published, PUBLISHED, workers, work) if args.tune else published
    if not args.tune:
        return [plan(request)]
    trials = trials_of(request, args.tune)
    plans = plan_trials(request, published, trials, seeds)
    chosen = settled(request.output, trials, seeds)
    left = {method: tried for method, tried in trials.items() if method not in chosen}
    if left:
        plans = [planned.of(left) for planned in plans]
        work(plans, "tuning: ")
        runs = [run for planned in plans for run in planned.runs]
        _expect_over(runs)
        _tell_failed(runs)
        chosen |= choose(request.output, left, runs, seeds)
    for method in request.methods:
        print(f"tuned: {method}: trial {chosen[method].number}, {chosen[method].words or 'as recommended'}")
    return [plan(final, strict=False) for final in final_requests(request, published, chosen)]


def _work(
    plans: Sequence[Plan], args: argparse.Namespace, slurm: Mapping[str, int | str], what: str, test: bool
) -> None:
    """Do what is left of the runs of plans."""
    runs = [run for planned in plans for run in planned.runs]
    impossible = [run for planned in plans for run in planned.impossible]
    todo = [run for run in runs if run not in impossible and not is_finished(read_state(run.folder), test)]
    for note in dict.fromkeys(note for planned in plans for note in planned.notes):
        print(f"note: {note}")
    over = len(runs) - len(impossible) - len(todo)
    told = f", {len(impossible)} impossible" if impossible else ""
    print(f"{what}{len(runs)} runs in {args.output}: {over} finished, {len(todo)} to do{told}", flush=True)
    for one in todo:
        with held(one.folder) as lock:
            if lock is not None:
                write_state(one.folder, state=QUEUED, queued=now(), error=None, finished=None)
    progress = Progress(runs, todo)
    try:
        if args.executor == "slurm":
            run_on_cluster(todo, test, args.workers or len(todo), progress, args.output.resolve(), slurm)
        else:
            workers = args.workers or 1
            with gpus_for(min(workers, len(todo)), read_pairs(args.set, "--set"), args.mps) as gpus:
                run_here(todo, test, workers, progress, gpus=gpus)
    finally:
        progress.close()


def _tuning_seeds(args: argparse.Namespace) -> list[int]:
    """The seeds of the trials, after a look at the arguments that cost most if they are wrong.

    Raises:
        UserError: no time, too few trials, or seeds that the final runs have.
    """
    seeds = read_seeds(args.tune_seeds, "--tune-seeds")
    if args.minutes is not None and not args.minutes > 0:
        raise UserError(f"--minutes: expected a number above 0, found {args.minutes:g}")
    if args.tune:
        expect_at_least("--tune", args.tune, 2)
        expect_other_seeds(seeds, read_seeds(args.seeds))
    return seeds


def _tell_scored(plans: Sequence[Plan], output: Path) -> None:
    """Say which test sets are not scored again; it is a mistake to ask for nothing else."""
    runs = [run for planned in plans for run in planned.runs if run not in planned.impossible]
    scored = [run for run in runs if TEST in read_state(run.folder)]
    if scored and all(is_finished(read_state(run.folder), test=True) for run in runs):
        at = read_state(scored[0].folder)[TEST]["at"]
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
        minutes=args.minutes,
        overrides=read_pairs(args.set, "--set"),
        test=args.test,
    )


def _expect_over(trials: Sequence[Run]) -> None:
    """All trials have ended, or there is nothing to choose from."""
    for run in trials:
        if read_state(run.folder).get("state") not in (DONE, FAILED):
            raise UserError(
                f"{run.folder}: expected a trial that is over, found one that another process works on; when that has "
                "ended, the same command goes on"
            )


def _tell_failed(runs: Sequence[Run]) -> bool:
    """Name the runs that failed; whether there are any."""
    failed = [run for run in runs if read_state(run.folder).get("state") == FAILED]
    for one in failed:
        log = one.folder / LOG
        print(f"failed: {one}: {read_state(one.folder).get('error')}" + (f"; see {log}" if log.is_file() else ""))
    return bool(failed)


def _report(runs: Sequence[Run], args: argparse.Namespace) -> int:
    """Name what failed and what others work on; 1 if something failed."""
    for one in runs:
        if not is_finished(read_state(one.folder), args.test) and read_state(one.folder).get("state") != FAILED:
            print(f"left alone: {one}: another process works on it; when that has ended, the same command goes on")
    failed = _tell_failed(runs)
    if any(VALIDATION in read_state(run.folder) for run in runs):
        print(f"the table: python -m tools table {args.output}")
    return int(failed)
