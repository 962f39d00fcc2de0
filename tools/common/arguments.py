"""Arguments that several verbs share: settings as KEY=VALUE, and where the work is done."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from scripts.errors import UserError
from scripts.settings import expect_at_least


def read_pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """The settings in words such as "lr=0.1".

    Raises:
        UserError: a word without a key or without "=".
    """
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise UserError(f"{option}: expected KEY=VALUE, found {word!r}")
        pairs[key] = value
    return pairs


def add_executor_arguments(parser: argparse.ArgumentParser, workers: str) -> None:
    """Declare `--executor`, `--workers`, `--no-mps` and `--slurm`; `workers` is the help of the second."""
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help=workers)
    parser.add_argument(
        "--no-mps",
        dest="mps",
        action="store_false",
        help="do not start NVIDIA's multi-process service where processes share a GPU",
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="parameters of the jobs as submitit names them: timeout_min=600 gpus_per_node=1 slurm_partition=gpu",
    )


def slurm_parameters(args: argparse.Namespace) -> dict[str, int | str]:
    """What `--slurm` holds; `--workers` is checked on the way.

    Raises:
        UserError: no pairs, `--slurm` without that executor, or no worker.
    """
    pairs = read_pairs(args.slurm, "--slurm")
    if pairs and args.executor != "slurm":
        raise UserError(f"--slurm: expected --executor slurm beside it, found --executor {args.executor}; add it")
    if args.workers is not None:
        expect_at_least("--workers", args.workers, 1)
    return {key: int(value) if value.isdigit() else value for key, value in pairs.items()}
