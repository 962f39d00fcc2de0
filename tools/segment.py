"""`python -m tools segment`: label maps, DICOM SEG and volumes of NIfTI images and DICOM series, with one command."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import UserError, first_line, user_message

from .bundles import expect_bundle

if TYPE_CHECKING:
    from .segmenting.cases import Case
    from .segmenting.running import Work

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
FORMATS = ("nifti", "seg", "csv")

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "input", metavar="INPUT", type=Path, help="NIfTI file, DICOM folder, or a folder of many of them"
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=Path, help="folder of results; finished cases are not repeated"
    )
    parser.add_argument("--bundle", required=True, help="bundle that segments, such as dca_synapse")
    parser.add_argument("--model", type=Path, help="model.pt, or its folder (default: the bundle's models/)")
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
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="other settings of inference.json"
    )


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
    bundle = expect_bundle(BUNDLES, args.bundle, "inference.json")
    if args.disagreement and args.fast:
        raise UserError("--fast: expected without --disagreement, since it leaves the comparison out; choose one")
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from .segmenting.cases import find_cases
    from .segmenting.preparing import modality_of, prepare
    from .segmenting.results import RECORD, read_rows, write_table
    from .segmenting.segmenter import Options

    logging.basicConfig(format="%(message)s")
    logging.getLogger("tools").setLevel(logging.INFO)
    # MONAI warns of decoders that nobody asked for.
    logging.getLogger("monai").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")
    output = args.output.resolve()
    options = Options(args.fast, args.probabilities, args.disagreement, args.set)
    modality = modality_of(bundle, args.set)
    cases = find_cases(args.input.resolve(), output, modality, args.series)
    work = prepare(bundle, args.model, args.device, options, args.formats, args.phases)
    terminal = sys.stderr.isatty()
    failures = []
    with logging_redirect_tqdm():
        for case in tqdm(cases, "cases", disable=len(cases) == 1 or not terminal):
            problem = _attempt(case, output / case.name, work, args.overwrite, terminal and len(cases) == 1)
            if problem:
                failures.append(f"{case.name}: {problem}")
    finished = [output / case.name for case in cases if (output / case.name / RECORD).is_file()]
    if "csv" in work.formats and finished:
        write_table(output / "volumes.csv", [row for folder in finished for row in read_rows(folder)])
    print(f"{len(cases) - len(failures)} of {len(cases)} segmented: {output}")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(failures))


def _attempt(case: Case, folder: Path, work: Work, overwrite: bool, progress: bool) -> str | None:
    """Segment a case unless that has been done; what went wrong, or None."""
    from .segmenting.results import is_finished
    from .segmenting.running import segment_case

    try:
        if is_finished(folder, work.settings_of(case), overwrite):
            logger.info("%s: finished before", case.name)
            return None
        segment_case(case, folder, work, progress)
    except Exception as error:  # the other cases are to be segmented all the same
        message = user_message(error)
        if message is None:
            logger.exception("%s", case.name)
        return message or f"{type(error).__name__}: {first_line(error)}"
    return None
