"""docs/reference/methods.md against the code: options with their defaults and published values, learning rates."""

from __future__ import annotations

import ast
import inspect
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from scripts.methods import METHODS, learning_rate, published_options
from scripts.methods.variants import VARIANTS
from tests.method_cases import small_method

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")
BUNDLES = {2: "dca_acdc", 3: "dca_synapse"}
ELSEWHERE = "dca"  # has a page of its own
COMMON = "What holds for all"
VALUE = re.compile(r"(?P<all>[^(]+?)(?: \(3D: (?P<volumes>[^)]+)\))?")


def sections():
    """The text of each section by the method's name in its heading, or by the whole heading."""
    found = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        name = re.search(r"\(`(\w+)`\)$", heading)
        found[name[1] if name else heading] = text
    return found


def table(text, header):
    """The rows below a header, as cells."""
    lines = text.splitlines()
    if header not in lines:
        return []
    rows = lines[lines.index(header) + 2 :]
    end = next((i for i, line in enumerate(rows) if not line.startswith("|")), len(rows))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[:end]]


def literal(text):
    """`sigmoid` is a string, true a flag, 2/3 a fraction, everything else a number."""
    if text.startswith("`"):
        return text.strip("`")
    if text in ("true", "false"):
        return text == "true"
    return float(Fraction(text)) if "/" in text else ast.literal_eval(text)


def by_dimension(text):
    """Such as 0.1 (3D: 1): the values for slices and for volumes."""
    value = VALUE.fullmatch(text)
    assert value, f"{text!r} is no value"
    return {2: literal(value["all"]), 3: literal(value["volumes"] or value["all"])}


def options(text):
    """{(whose option, its name): {"default": values, "published": values}} of a section's table."""
    found = {}
    for cells in table(text, "| option | default | published | |"):
        names = re.findall(r"`(\w+)`", cells[0])
        whose = "network" if names[0] == "network_options" else "method"
        names = names[1:] if whose == "network" else names
        for column, cell in (("default", cells[1]), ("published", cells[2])):
            values = [by_dimension(value) for value in cell.split(", ")]
            for name, value in zip(names, values, strict=True):
                found.setdefault((whose, name), {})[column] = value
    return found


def same(stated, actual):
    """Equal, and of one kind: true is not 1."""
    return isinstance(stated, bool) == isinstance(actual, bool) and (
        stated == actual if isinstance(actual, str) else stated == pytest.approx(actual)
    )


@pytest.mark.parametrize("name", [name for name in METHODS if name != ELSEWHERE])
def test_options(name):
    cls, text = METHODS[name], sections()[name]
    parameters = {"method": inspect.signature(cls).parameters, "network": inspect.signature(cls.network).parameters}
    common = {key: value for key, value in options(sections()[COMMON]).items() if key[1] in parameters["method"]}
    stated = common | options(text)
    assert {key for whose, key in stated if whose == "method"} == set(parameters["method"]) - {"predictor"}
    assert {key for whose, key in stated if whose == "network"} >= set(cls.published_network)
    for dims in BUNDLES:
        published = {"method": published_options(cls, dims), "network": cls.published_network}
        for (whose, key), values in stated.items():
            default = parameters[whose][key].default
            if default is None:  # chosen by the dimension
                default = getattr(small_method(name, dims), key)
            assert same(values["default"][dims], default), (dims, key, values, default)
            paper = published[whose].get(key, default)
            assert same(values["published"][dims], paper), (dims, key, values, paper)


def test_learning_rates():
    stated = {}
    for rate, names in table(sections()[COMMON], "| learning rate | methods |"):
        stated |= dict.fromkeys(re.findall(r"`(\w+)`", names), by_dimension(rate))
    assert set(stated) == set(METHODS)
    for dims, bundle in BUNDLES.items():
        config = json.loads((ROOT / "bundles" / bundle / "configs" / "train.json").read_text(encoding="utf-8"))
        preset = config["presets"]["published"]["lr"]
        assert {name: rates[dims] for name, rates in stated.items()} == {
            name: learning_rate(name, "published", dims, preset) for name in METHODS
        }


def test_every_method_stands_in_the_first_table_and_has_its_loss():
    listed = [cells[0].strip("`") for cells in table(PAGE, "| `--method` | | the idea | networks | predicts with |")]
    assert sorted(listed) == sorted(METHODS)
    losses = {name for name, text in sections().items() if text.count("Loss at the published setting") == 1}
    assert losses == set(METHODS) - {ELSEWHERE}
    assert [name for name in VARIANTS if f"`{name}`" not in PAGE] == []


def test_the_methods_that_wait_for_the_host_and_their_reasons():
    told = {name.strip("`"): reason for name, reason in table(sections()["On a GPU"], "| | waits, because |")}
    assert told == {name: method.waits for name, method in METHODS.items() if method.waits}
