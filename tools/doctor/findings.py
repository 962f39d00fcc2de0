"""What the doctor has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks wrong, with a file.

    severity: "error", what keeps the data set from being used as meant, or makes its scores wrong; "warning", what
        should be looked at; "note", what is worth knowing.
    kind: the check's name, the same for all files.
    """

    severity: str
    kind: str
    file: str
    expected: str
    found: str
    fix: str


def exit_code(findings: Sequence[Finding]) -> int:
    """2 after an error, 1 after a warning, 0 else."""
    worst = {finding.severity for finding in findings}
    return 2 if ERROR in worst else 1 if WARNING in worst else 0


def listed(findings: Sequence[Finding], most: int) -> list[str]:
    """A line per finding, errors first; of many of one kind the first ones only."""
    lines = []
    for severity in SEVERITIES:
        kinds = dict.fromkeys(one.kind for one in findings if one.severity == severity)
        for kind in kinds:
            same = [one for one in findings if (one.severity, one.kind) == (severity, kind)]
            for one in same[:most]:
                lines.append(f"{severity}: {kind}: {one.file}: expected {one.expected}, found {one.found}; {one.fix}")
            if len(same) > most:
                lines.append(f"{severity}: {kind}: and {len(same) - most} more files")
    return lines
