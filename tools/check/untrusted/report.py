"""`check --untrusted`: one line per finding, and a line that sums them up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from scripts.errors import UserError

from .files import examine

MOST_FINDINGS = 10_000


def report(bundle: Path) -> int:
    """Print what a bundle of strangers would run, load or reach; nothing of it is executed.

    Returns:
        0 when nothing was found, else 1.

    Raises:
        UserError: it cannot be read, or only at the price of this machine's memory or time.
    """
    findings, count = examine(bundle)
    if len(findings) > MOST_FINDINGS:
        raise UserError(
            f"{bundle}: expected at most {MOST_FINDINGS} findings, found {len(findings)}; do not use this bundle"
        )
    findings = list(dict.fromkeys(findings))
    for finding in findings:
        print(finding)
    kinds = Counter(finding.kind for finding in findings)
    named = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    print(
        f"{bundle}: {count} files, "
        + (f"{len(findings)} findings to read before you use it ({named})" if findings else "nothing found")
    )
    return 1 if findings else 0
