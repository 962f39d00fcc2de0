"""What `python -m tools bench` measures: a module per subject, each with its JOBS (`jobs.Job`)."""

_NAMES = ("floor", "training", "data", "scaling", "inference", "scoring", "startup", "growth")
SUBJECTS = {name: f"{__name__}.{name}" for name in _NAMES}
