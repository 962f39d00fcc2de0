"""`python -m tools VERB ...`: finds the verb's module, parses its arguments, turns user errors into exit code 2.

A verb is a folder of this package whose `command.py` has `add_arguments(parser)` and `run(args) -> int`. Only the
chosen one is imported, so that the others cost nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from scripts.errors import did_you_mean, user_message

VERBS = {
    "demo": "train, evaluate and infer a bundle on the embedded phantom",
    "phantom": "make a small synthetic data set (cine heart or abdominal CT) to try everything on",
    "prepare": "check a downloaded data set and write its datalist",
    "new": "a bundle for data of your own: from a folder of scans, a few of them labelled, to a plan and its configs",
    "doctor": "what a data set holds, and what is wrong with it: unreadable, doubled, swapped, mirrored, outlying",
    "check": "resolve a bundle's config without running it and name what is wrong with it",
    "seeds": "mean and standard deviation of the scores of several runs",
    "compare": "train several methods alike, resumably, and score their checkpoints",
    "segment": "label maps, DICOM SEG and volumes of NIfTI images and DICOM series",
    "table": "what `compare` measured, in the layout of the published tables and beside them",
    "package": "a bundle with its code and model as a folder and a zip, for MONAI's loaders and applications",
    "label": "MONAI Label's server for a bundle: infer, label and train from a viewer",
    "deploy": "MONAI Deploy's app for a bundle: DICOM series in, DICOM SEG and volumes out",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, 1 where a verb found something, or 2 after a user error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    overview = argparse.ArgumentParser(
        prog="python -m tools",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="verbs:\n" + "\n".join(f"  {verb:10}{summary}" for verb, summary in VERBS.items()),
    )
    overview.add_argument("verb", metavar="VERB", help="one of the verbs below; `VERB --help` tells its arguments")
    verb = overview.parse_args(argv[:1]).verb
    if verb not in VERBS:
        print(f"error: unknown verb {verb!r}; {did_you_mean(verb, VERBS)}", file=sys.stderr)
        return 2
    return run_command(f"tools.{verb}.command", f"python -m tools {verb}", VERBS[verb], argv[1:])


def run_command(module: str, prog: str, description: str, argv: Sequence[str]) -> int:
    """Parse the arguments of a module with `add_arguments` and `run`, run it, and return the exit code."""
    try:
        command = importlib.import_module(module)
        parser = argparse.ArgumentParser(prog=prog, description=description)
        command.add_arguments(parser)
        return int(command.run(parser.parse_args(argv)))
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
