"""`check --untrusted` on what we ship, and its list of harmless classes beside MONAI's own names."""

from __future__ import annotations

import importlib
import inspect
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import monai.transforms
import pytest
from monai.bundle import ComponentLocator

from tests.tools.check.untrusted.conftest import Scan
from tools.__main__ import main
from tools.check.untrusted.allowed import NAMES, TRANSFORMS


def texts(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a config, by key path."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        below = f"{place}::{key}" if place else str(key)
        if isinstance(value, dict | list):
            yield from texts(value, below)
        elif isinstance(value, str):
            yield below, value


@pytest.mark.parametrize("name", ["dca_acdc", "dca_synapse", "dca_amos"])
def test_our_packages_have_expressions_and_code_of_their_own_and_nothing_else(
    scan: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["package", name, "--output", str(tmp_path / "dist")]) == 0
    capsys.readouterr()
    archive = next((tmp_path / "dist").glob("*.zip"))
    expected = set()
    with zipfile.ZipFile(archive) as files:
        for member in files.namelist():
            if member.endswith(".py"):
                expected.add((member, "code"))
            for place, text in texts(json.loads(files.read(member))) if member.endswith(".json") else ():
                own = place.endswith("_target_") and text.startswith("scripts.")
                if text.startswith("$") or own:
                    expected.add((member, place))
    code, found, _ = scan(archive)
    assert (code, {tuple(line.split(": ")[:2]) for line in found}) == (1, expected)
    assert len(found) == len(expected) > 100
    inside = [line.partition("/")[2] for line in found]
    assert sorted(scan(tmp_path / "dist" / name)[1]) == sorted(inside)


def test_every_listed_name_is_the_class_that_monai_finds_by_it() -> None:
    for name in TRANSFORMS.split():  # not every transform has both forms
        assert hasattr(monai.transforms, name) or hasattr(monai.transforms, f"{name}d"), name
    locator = ComponentLocator()
    for package, names in NAMES.items():
        there = importlib.import_module(package)
        for name in names if package != "monai.transforms" else filter(partial(hasattr, there), names):
            assert inspect.isclass(getattr(there, name)), f"{package}.{name}"
            if package.startswith("monai."):
                found = locator.get_component_module_name(name)
                first = found if isinstance(found, str) else found[0]
                assert first.startswith(f"{package}."), name
