"""What is measured on a GPU, a module per subject, each with its `rows`: `python -m benchmarks --device cuda`.

One process measures everything: a CUDA context and the first call of its libraries cost seconds, and a GPU tells the
peak of its memory anew for each variant, which a process does not. The last subject may take the longest.
"""

_NAMES = ("floor", "training", "methods", "data", "inference", "variants", "compiling")
SUBJECTS = {name: f"{__name__}.{name}" for name in _NAMES}
