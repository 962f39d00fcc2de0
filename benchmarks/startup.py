"""How long verbs take that only look at files: as they are, and with torch and MONAI imported first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.common.paths import ROOT

from .jobs import Job, Variant

CONFIG = "bundles/dca_synapse/configs/train.json"
# The bundle runner's own imports: what a verb would pay for if it imported at the top of its modules.
EAGER = "import sys, torch, monai.bundle; from tools.__main__ import main; sys.exit(main(sys.argv[1:]))"


def help_words(folder: Path) -> list[str]:
    """`--help`."""
    return ["--help"]


def check_words(folder: Path) -> list[str]:
    """`check` of a training config on the phantom that `prepare` made."""
    data = folder / "data"
    settings = ["--dataset_dir", str(data), "--split_file", str(data / "split.json"), "--percent", "50"]
    return ["check", CONFIG, *settings]


def prepare(folder: Path) -> None:
    """Make a small phantom."""
    from tools.phantom.command import make_phantom

    make_phantom("abdomen", folder / "data", cases=2, labelled=1, validation=1, test=1, size=(64, 64, 48), percent=50)


def command(start: Sequence[str], words: Callable[[Path], list[str]]) -> Callable[[Path], Callable[[], str]]:
    """Runs Python with these words, and returns what it printed."""

    def make(folder: Path) -> Callable[[], str]:
        whole = [sys.executable, *start, *words(folder)]
        return lambda: subprocess.run(whole, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    return make


def _variants(words: Callable[[Path], list[str]]) -> tuple[Variant, ...]:
    return (
        Variant("torch and MONAI first", command(["-c", EAGER], words)),
        Variant("as it is", command(["-m", "tools"], words)),
    )


JOBS = (Job("--help", variants=_variants(help_words), goal_seconds=0.5),)
