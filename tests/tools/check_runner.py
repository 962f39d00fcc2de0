"""Runs `check` as the command line does, for the tests of its parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.__main__ import main

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "bundles" / "dca_acdc" / "configs"
TRAIN = CONFIGS / "train.json"

Check = Callable[..., tuple[int, str, list[str]]]


def runner(phantom: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """A function that checks a config on a data set; the exit code, what it printed, and the lines of the error."""

    def run(config: object, *overrides: object, data: Path = phantom) -> tuple[int, str, list[str]]:
        words = ["--dataset_dir", data]
        if "inference" not in str(config):
            words += ["--split_file", data / "split.json", "--percent", 50, "--image_size", "[64, 64]"]
        code = main(["check", *map(str, [config, *words, *overrides])])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run
