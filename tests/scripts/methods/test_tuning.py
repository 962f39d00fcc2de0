"""The values that `compare --tune` tries: options that their method has and takes, beside its own default."""

from __future__ import annotations

import inspect

import pytest

from scripts.methods import METHODS
from tests.tiny_training import make_method


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_every_value_that_its_tuning_tries(name: str) -> None:
    cls = METHODS[name]
    assert cls.tuning.keys() <= inspect.signature(cls).parameters.keys()
    for key, values in cls.tuning.items():
        for value in values:
            assert make_method(name, **{key: value}) is not None
        assert any(value != inspect.signature(cls).parameters[key].default for value in values)
