"""What is measured of the project, a module per subject, each with its JOBS (`jobs.Job`): `python -m benchmarks`."""

import tools  # noqa: F401 - puts `scripts` on the path

_NAMES = ("floor", "training", "data", "scaling", "inference", "scoring", "startup", "growth")
SUBJECTS = {name: f"{__name__}.{name}" for name in _NAMES}
