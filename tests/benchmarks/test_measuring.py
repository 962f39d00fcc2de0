"""Measuring a job: agreement first, turns, memory of each variant's own, ratios."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.jobs import Job, Variant, difference
from benchmarks.measuring import BenchError, compared, goal, grown, measure
from tests.benchmarks import subject

MODULE = subject.__name__
JOBS = {job.name: job for job in subject.JOBS}


def numbers(seconds: float, median: float, processor: float, peak: float | None) -> dict[str, Any]:
    spread = {"minimum": seconds, "median": median}
    return {"seconds": spread, "processor_seconds": {"minimum": processor}, "peak_mib": peak}


def test_variants_take_turns_after_a_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNS", str(tmp_path / "turns.txt"))
    measured = measure(MODULE, JOBS["turns"], 3)
    assert (tmp_path / "turns.txt").read_text() == "AB" * 4
    for variant in measured["variants"].values():
        assert len(variant["seconds"]["all"]) == len(variant["processor_seconds"]["all"]) == 3
        assert variant["seconds"]["minimum"] == min(variant["seconds"]["all"])
        assert variant["seconds"]["median"] == sorted(variant["seconds"]["all"])[1]


def test_results_that_differ_by_more_than_the_tolerance_are_an_error() -> None:
    assert measure(MODULE, JOBS["agree"], 1)["tolerance"] == 1e-6
    measure(MODULE, JOBS["later"], 1)
    with pytest.raises(
        BenchError, match=r"'variant 1' disagrees with 'variant 0': sum: \[0\] expected 5\.0, found 5\."
    ):
        measure(MODULE, JOBS["disagree"], 1)


def test_variant_that_fails_is_an_error_which_names_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="fail: 'variant 1' failed with exit code 1"):
        measure(MODULE, JOBS["fail"], 1)
    assert "this variant always fails" in capfd.readouterr().err


def test_variant_that_is_killed_is_told_to_have_been() -> None:
    with pytest.raises(BenchError, match="killed: 'variant 1' was killed, as it happens where memory runs out"):
        measure(MODULE, JOBS["killed"], 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, which tells a process its peak")
def test_peak_of_one_variant_does_not_hide_that_of_the_other() -> None:
    ballast = bytearray(b"x") * (600 << 20)  # nor does that of this process
    measured = measure(MODULE, JOBS["memory"], 1)["variants"]
    assert 300 <= measured["variant 0"]["peak_mib"] < 400
    assert 100 <= measured["variant 1"]["peak_mib"] < 200
    assert all(variant["loaded_mib"] < 100 for variant in measured.values())
    assert len(ballast) == 600 << 20


def test_ratios_are_the_baseline_over_the_variant_and_a_share_of_its_memory() -> None:
    measured = {"base": numbers(6, 8, 5, 200), "fast": numbers(2, 4, 1, 50), "unknown": numbers(3, 2, 10, None)}
    found = compared(measured)
    assert found["baseline"] == "base"
    assert list(found["ratios"]) == ["fast", "unknown"]
    assert list(found["ratios"]["fast"].values()) == [3, 2, 5, 0.25]
    assert list(found["ratios"]["unknown"].values()) == [2, 4, 0.5, None]


@pytest.mark.parametrize(
    ("goals", "reached"),
    [
        ({}, True),
        ({"goal_speedup": 2}, True),
        ({"goal_speedup": 2.1}, False),
        ({"goal_seconds": 2}, True),
        ({"goal_seconds": 1.9}, False),
        ({"goal_speedup": 2, "goal_seconds": 1}, False),
        ({"goal_peak": 0.25}, True),
        ({"goal_peak": 0.2}, False),
        ({"goal_speedup": 2, "goal_peak": 0.2}, False),
    ],
)
def test_goal_needs_the_speedup_of_minimum_and_median_the_least_seconds_and_the_peak(
    goals: dict[str, float], reached: bool
) -> None:
    job = Job("job", [Variant(name, subject.fails) for name in ("base", "other", "last")], **goals)
    measured = {"base": numbers(6, 8, 6, 100), "other": numbers(60, 1, 6, 1), "last": numbers(2, 4, 6, 25)}
    assert goal(job, measured)["goal"]["reached"] is reached


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        ([1, 2.0], [1.0, 2], None),
        (1.1, 1.0, None),
        (1.2, 1.0, "expected 1.0, found 1.2"),
        (math.nan, math.nan, None),
        (math.nan, 1.0, "expected 1.0, found nan"),
        (1.0, math.nan, "expected nan, found 1.0"),
        ([1.0], [1.0, 2.0], "expected [1.0, 2.0], found [1.0]"),
        ({"a": 1}, {"b": 1}, "expected {'b': 1}, found {'a': 1}"),
        ({"a": [0, {"b": 5}]}, {"a": [0, {"b": 1}]}, "a: [1] b: expected 1, found 5"),
        ("text", "text", None),
        ("text", "other", "expected 'other', found 'text'"),
        ("1", 1, "expected 1, found '1'"),
    ],
)
def test_difference_is_found_and_told(found: Any, expected: Any, told: str | None) -> None:
    assert difference(found, expected, 0.11) == told


@pytest.mark.parametrize(("exponent", "reached"), [(1.6, True), (1.4, False)])
def test_growth_is_the_exponent_of_seconds_and_of_memory_above_what_was_loaded(exponent: float, reached: bool) -> None:
    amounts = [10, 20, 80]
    job = Job("job", [Variant(str(n), subject.fails) for n in amounts], amounts=amounts, goal_exponent=exponent)
    measured = {str(n): numbers(3 * n**1.5, 1, 1, 100 + 7 * n) | {"loaded_mib": 100} for n in amounts}
    assert grown(job, measured)["exponents"] == {"seconds": pytest.approx(1.5), "memory": pytest.approx(1)}
    assert goal(job, measured)["goal"]["reached"] is reached


def test_growth_of_unknown_memory_is_unknown() -> None:
    job = Job("job", [Variant(str(n), subject.fails) for n in (1, 2)], amounts=[1, 2])
    measured = {str(n): numbers(n, 1, 1, None) for n in (1, 2)}
    assert grown(job, measured)["exponents"] == {"seconds": pytest.approx(1), "memory": None}


def test_variants_of_a_growth_need_not_agree() -> None:
    job = replace(JOBS["disagree"], amounts=[1, 2])
    assert measure(MODULE, job, 1)["exponents"]["seconds"] is not None
