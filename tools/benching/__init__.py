"""What `python -m tools bench` measures: a module per subject (`SUBJECTS`), each with its JOBS (`jobs.Job`)."""

SUBJECTS = ("scoring", "startup")
