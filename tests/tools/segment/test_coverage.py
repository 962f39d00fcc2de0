"""What choosing by coverage asks for."""

from __future__ import annotations

import pytest

from tools.segment.coverage import gains, next_by_gain

# Two heaps of three and an outlier; "b" and "e" lie in the middle of theirs.
LINE = {"a": [0.0], "b": [1.0], "c": [2.0], "d": [10.0], "e": [11.0], "f": [12.0], "z": [40.0]}


def best(found: dict[str, float]) -> str:
    return max(found, key=lambda name: found[name])


def test_without_a_label_the_medoid_is_asked_for() -> None:
    sums = {name: sum(abs(LINE[name][0] - other[0]) for other in LINE.values()) for name in LINE}
    assert best(gains(LINE, [])) == min(sums, key=lambda name: sums[name]) == "d"


def test_the_middle_of_what_is_far_from_a_label_comes_next_before_an_outlier() -> None:
    heaps = {name: LINE[name] for name in "abcdef"}
    found = gains(heaps, ["b"])
    assert sorted(found) == ["a", "c", "d", "e", "f"]
    assert best(found) == "e"
    assert found["e"] == pytest.approx(1 - 4 / 32)  # 1 + 0 + 1 and 9 + 10 + 11 are left of it; 1 + 0 + 1 and 1 + 0 + 1
    outlier = {**heaps, "d1": [10.2], "e1": [11.2], "f1": [12.2], "z": [30.0]}
    assert best(gains(outlier, ["b"])) != "z"


def test_weights_turn_the_choice_to_what_counts() -> None:
    assert best(gains(LINE, ["b", "e"])) == "z"
    assert best(gains(LINE, ["b", "e"], {"a": 1.0, "z": 0.01})) == "a"
    assert gains(LINE, ["b", "e"], {"a": 1.0})["a"] == pytest.approx(1)


def test_no_feature_counts_more_for_its_unit() -> None:
    flat = {"a": [0.0, 0.0], "b": [1.0, 0.3], "c": [0.2, 1.0], "d": [0.9, 0.8]}
    first = gains(flat, ["a"])
    other_unit = gains({name: [x, 1000 * y + 7] for name, (x, y) in flat.items()}, ["a"])
    assert first == {name: pytest.approx(share) for name, share in other_unit.items()}


def test_alike_images_and_none_at_all_make_no_noise() -> None:
    assert gains({"a": [1.0, 2.0], "b": [1.0, 2.0]}, ["a"]) == {"b": 0}
    assert gains({"a": [1.0, 2.0], "b": [1.0, 2.0]}, []) == {"a": 0, "b": 0}
    assert gains({"a": [3.0]}, ["a"]) == {}


def test_the_largest_gain_is_next_and_of_equal_ones_the_first_by_name() -> None:
    assert next_by_gain({name: LINE[name] for name in "fedcba"}, ["b"]) == ("e", pytest.approx(1 - 4 / 32))
    assert next_by_gain({"b": [5.0], "z": [0.0], "a": [5.0]}, ["z"]) == ("a", 1)
