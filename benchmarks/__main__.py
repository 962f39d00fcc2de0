"""`python -m benchmarks`: see `command`."""

import sys

from tools.__main__ import run_command

WHAT = "time and memory of the same work done in several ways, side by side"

if __name__ == "__main__":
    sys.exit(run_command("benchmarks.command", "python -m benchmarks", WHAT, sys.argv[1:]))
