"""`python -m tools.compare FOLDER`: work on one planned run of a comparison; a job of a cluster is this command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .runs import Processes, perform
from .state import FAILED


def main() -> int:
    """Work on the run; 1 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of the run, with its run.json")
    parser.add_argument("--test", action="store_true", help="score the test set, too")
    args = parser.parse_args()
    reached = perform(args.folder, Processes(), args.test)
    print(f"{args.folder}: {reached}")
    return int(reached == FAILED)


if __name__ == "__main__":
    sys.exit(main())
