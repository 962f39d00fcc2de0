"""The doctor's findings as a page: one HTML file that loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .findings import SEVERITIES, Finding

STYLE = """
:root { color-scheme: light dark; --line: #8884; --error: #b3261e; --warning: #8a5a00; --note: #3b6ea5; }
@media (prefers-color-scheme: dark) { :root { --error: #ff8a80; --warning: #ffc46b; --note: #90c2ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.7rem 0.3rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; }
td.error, td.warning, td.note { white-space: nowrap; }
.error { color: var(--error); font-weight: 600; } .warning { color: var(--warning); font-weight: 600; }
.note { color: var(--note); }
"""


def page(findings: Sequence[Finding], fingerprint: Mapping[str, Any]) -> str:
    """The whole page."""
    counts = Counter(finding.severity for finding in findings)
    summary = ", ".join(f"{counts[severity]} {severity}s" for severity in SEVERITIES)
    order = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    rows = [[one.severity, one.kind, one.file, one.expected, one.found, one.fix] for one in order]
    name = escape(fingerprint["name"] or "Data set")
    classes = [[name, *map(str, values.values())] for name, values in fingerprint["classes"].items()]
    plain = [[key, _words(value)] for key, value in fingerprint.items() if key not in ("name", "classes")]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}: what the doctor found</title><style>{STYLE}</style></head><body>",
            f"<h1>{name}: what the doctor found</h1><p>{summary}.</p>",
            _table(("severity", "what", "file", "expected", "found", "what to do"), rows) if rows else "",
            "<h2>Fingerprint</h2>",
            _table(("", "value"), plain),
            "<h2>Classes</h2>",
            _table(("class", "cases", "smallest, ml", "median, ml", "largest, ml"), classes),
            "</body></html>",
        ]
    )


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = [
        "<tr>"
        + "".join(
            f'<td class="{cell}">{cell}</td>' if cell in SEVERITIES and not i else f"<td>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    ]
    return f"<table><tr>{top}</tr>{''.join(lines)}</table>"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_words(one)}" for key, one in value.items())
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)
