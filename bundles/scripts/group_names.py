"""What the groups of classes are called, and the experts that own them."""

from __future__ import annotations

GROUP_NAMES = {
    1: ("medium",),
    2: ("head", "tail"),
    3: ("head", "medium", "tail"),
    4: ("head", "large", "small", "tail"),
    5: ("head", "large", "medium", "small", "tail"),
}
"""By how many groups there are, the largest classes first."""
MOST_GROUPS = max(GROUP_NAMES)
