"""What `python -m tools bench` measures: a module per subject, each with its JOBS (`jobs.Job`)."""

SUBJECTS = {name: f"{__name__}.{name}" for name in ("scoring", "startup", "data")}
