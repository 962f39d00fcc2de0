"""Experiments that are too long for a test: `python -m experiments.NAME`."""

import tools  # noqa: F401 - puts `scripts` on the path
