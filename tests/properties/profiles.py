"""How many examples the properties are tried with, and where: registered by tests/conftest.py, for all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# Chosen by the tests' names alone, the same in every run. An example may be slow on a machine that has other work, and
# the fixtures that are used with examples are folders, which each example empties.
settings.register_profile(
    "few",
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# `make properties`: chosen by --hypothesis-seed.
settings.register_profile(
    "many",
    settings.get_profile("few"),
    max_examples=int(os.environ.get("PROPERTIES_EXAMPLES", "3500")),
    derandomize=False,
)


def use(profile: str = "few") -> None:
    """Let all properties have this profile; pytest's --hypothesis-profile goes before it."""
    settings.load_profile(profile)


def costly(share: int = 7) -> settings:
    """Settings of a property whose examples take tenths of a second: this part of the examples of others."""
    return settings(max_examples=max(1, settings.default.max_examples // share))
