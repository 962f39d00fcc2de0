"""A change that changes nothing, which every test passes: else mutants of `make mutation` would die of other causes.

mutmut tries each mutant in a fork of its process. Before that it runs the tests without a mutant, but not in a fork. As
a plugin of pytest, this module makes every test call a function whose only mutant is harmless.
"""

from __future__ import annotations

import pytest


def control(_: int = 0) -> None:
    """Called in every test."""


@pytest.fixture(autouse=True)
def _controlled() -> None:
    control()
