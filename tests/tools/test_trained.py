"""Settings of a trained model: all that a description records, three from older ones, none from an empty one."""

from __future__ import annotations

from tools.trained import trained_settings

OLDER = {"method": "cps", "preset": "demo", "network": {"dropout": 0.1}, "steps": 600}
SETTINGS = {"method": "cps", "preset": "demo", "network_options": {"dropout": 0.1}}


def test_every_recorded_setting_is_taken() -> None:
    recorded = SETTINGS | {"spacing": [2.0, 2.0, 2.0], "prediction": None}
    assert trained_settings(OLDER | {"inference": recorded}) == recorded


def test_an_older_description_gives_method_preset_and_network() -> None:
    assert trained_settings(OLDER) == SETTINGS


def test_an_empty_description_sets_nothing() -> None:
    assert trained_settings({}) == {}
