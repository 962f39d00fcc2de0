"""A step of a method does not wait for the host, unless its class says why (`Method.waits`)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from scripts.methods import METHODS
from tests.bundle_runner import ROOT


@pytest.fixture(scope="module")
def obstacles() -> dict[str, dict[str, str | None]]:
    """What `tests.accelerator` found."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import tools, tests.accelerator; tests.accelerator.main()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    told: dict[str, dict[str, str | None]] = json.loads(found.stdout)
    return told


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_step_waits_for_the_host_only_where_the_method_says_so(
    name: str, obstacles: dict[str, dict[str, str | None]]
) -> None:
    found = {case: obstacle for case, obstacle in obstacles[name].items() if obstacle is not None}
    assert bool(found) == bool(METHODS[name].waits), found
