"""`python -m tools segment`: label maps, DICOM SEG and volumes of NIfTI images and DICOM series, with one command."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import UserError

from ..common.arguments import add_executor_arguments, slurm_parameters
from ..common.bundles import expect_bundle
from ..common.paths import BUNDLES
from ..common.stopping import STOPPED, ends_like_an_interrupt
from .options import FORMATS, Options

if TYPE_CHECKING:
    from .cases import Case
    from .request import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "input", metavar="INPUT", type=_path, help="NIfTI file, DICOM folder, or a folder of many of them"
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=_path, help="folder of results; finished cases are not repeated"
    )
    parser.add_argument("--bundle", required=True, help="bundle that segments, such as dca_synapse")
    parser.add_argument("--model", type=_path, help="model.pt, or its folder (default: the bundle's models/)")
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    parser.add_argument("--fast", action="store_true", help="fewer and larger windows, no disagreement score")
    parser.add_argument("--series", metavar="UID", help="the only DICOM series to segment (SeriesInstanceUID)")
    parser.add_argument(
        "--phases", type=_numbers, help="phases of a cine, from 0, such as 0,9 (default: end-diastole and end-systole)"
    )
    parser.add_argument(
        "--formats", type=_formats, default=FORMATS, help="what to write, of nifti,seg,csv (default: all; seg of DICOM)"
    )
    parser.add_argument("--probabilities", action="store_true", help="write the probability of every class, too")
    parser.add_argument("--disagreement", action="store_true", help="write where the experts disagree, too")
    parser.add_argument("--overwrite", action="store_true", help="repeat finished cases")
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="other settings of inference.json",
    )
    add_executor_arguments(parser, "processes that share the cases; with slurm jobs (default: 1)")
    parser.add_argument("--shard", metavar="I/N", help="only the cases I, I + N, ... of all, counted from 1")


def _path(text: str) -> Path:
    return Path(text).resolve()


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _formats(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if not set(words) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(FORMATS)}, found {text!r}")
    return words


def run(args: argparse.Namespace) -> int:
    """Segment every case; 1 if one of them failed, the others are done all the same.

    Raises:
        UserError: nothing to segment, no model, or wrong settings.
    """
    request, slurm = _request(args), slurm_parameters(args)
    if args.shard and args.executor == "slurm":
        raise UserError("--shard: expected without --executor slurm, which makes the shards itself; leave one out")
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..common.gpus import gpus_for
    from .results import RECORD, read_rows, write_table
    from .shards import read_shard, segment_on_cluster
    from .workers import quiet, segment_here, segment_in_processes

    logging.basicConfig(format="%(message)s")
    quiet()
    shard = read_shard(args.shard) if args.shard else None
    output, workers = request.output, args.workers or 1
    cases = request.cases() if shard is None else shard.share(request.cases())
    bar = tqdm(total=len(cases), desc="cases", disable=len(cases) == 1 or not sys.stderr.isatty())
    outcomes: dict[str, str | None] = {}

    def tell(case: Case, problem: str | None) -> None:
        outcomes[case.name] = problem
        bar.update()
        if shard is not None:
            shard.write(output, outcomes)

    try:
        with logging_redirect_tqdm(), bar, ends_like_an_interrupt():
            if shard is not None:
                shard.write(output, outcomes)
            if args.executor == "slurm":
                segment_on_cluster(cases, request, workers, tell, slurm)
            elif min(workers, len(cases)) > 1:
                chosen = [word.partition("=")[0] for word in args.settings] + ["device"] * (args.device is not None)
                with gpus_for(min(workers, len(cases)), chosen, args.mps) as gpus:
                    segment_in_processes(cases, request, workers, tell, gpus)
            elif cases:
                segment_here(cases, request, tell, progress=len(cases) == 1 and sys.stderr.isatty())
    except KeyboardInterrupt:
        submitted = " (submitted jobs go on by themselves)" if args.executor == "slurm" else ""
        print(f"stopped; the same command goes on{submitted}")
        return STOPPED
    finished = [output / case.name for case in cases if (output / case.name / RECORD).is_file()]
    if "csv" in request.options.formats and finished and shard is None:
        write_table(output / "volumes.csv", [row for folder in finished for row in read_rows(folder)])
    failures = [f"failed: {case.name}: {outcomes[case.name]}" for case in cases if outcomes[case.name] is not None]
    print(f"{len(cases) - len(failures)} of {len(cases)} segmented: {output}")
    print("".join(f"{failure}\n" for failure in failures), end="", file=sys.stderr)
    return int(bool(failures))


def _request(args: argparse.Namespace) -> Request:
    bundle = expect_bundle(BUNDLES, args.bundle, "inference.json")
    if args.disagreement and args.fast:
        raise UserError("--fast: expected without --disagreement, since it leaves the comparison out; choose one")
    from .request import Request

    return Request(source=args.input, output=args.output, bundle=bundle, options=Options.of(args))
