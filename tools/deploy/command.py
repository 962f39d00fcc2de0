"""`python -m tools deploy`: the app of MONAI Deploy for a bundle, as a folder that runs without this checkout."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..common.bundles import expect_bundle
from ..common.paths import BUNDLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--bundle", required=True, help="bundle that segments, such as dca_synapse")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--models", type=Path, help="folder of model.pt, or of a run that holds it (default: the bundle's own models/)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the app's folder and print what is in it.

    Raises:
        UserError: an unknown bundle, no model that fits it, or a target that is not an app to replace.
    """
    bundle = expect_bundle(BUNDLES, args.bundle, "segments.json")
    from .folder import write_app  # here, since it imports MONAI

    logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)  # it tells of files that are moved at once
    print(write_app(bundle, args.output, args.models))
    return 0
