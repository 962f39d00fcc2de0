"""The command line of this project: `python -m tools VERB`, one module per verb."""

import sys

from .common.paths import BUNDLES

# The bundles package `scripts` as a top-level name, so the tools import it under that name too.
if str(BUNDLES) not in sys.path:
    sys.path.insert(0, str(BUNDLES))
