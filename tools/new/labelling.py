"""Which classes labels hold where nothing names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..common.case_files import read_volume
from ..common.findings import Findings

MOST = 64  # classes; more are no classes, but an image


def numbers_in(labels: Sequence[Path], findings: Findings) -> dict[int, str]:
    """Names ("class 1", ...) for all numbers in these label maps; what is no label map goes into `findings`."""
    seen: set[int] = set()
    for path in labels:
        volume = read_volume(path, findings)
        if volume is None:
            continue
        values = np.unique(volume.values)
        whole = values[np.isfinite(values) & (values == np.round(values)) & (values >= 0)]
        if len(whole) < len(values) or len(values) > MOST + 1:
            found = ", ".join(f"{value:g}" for value in values[:6].tolist())
            findings.add(
                path,
                "a label map of whole numbers from 0 on",
                f"the values {found}, ...",
                "correct the label, or leave it out",
            )
            continue
        seen |= {int(value) for value in whole.tolist() if value}
    if not seen and labels and not findings.lines:
        findings.add(labels[0], "a class in some label", "background only", "label something")
    return {number: f"class {number}" for number in sorted(seen)}
