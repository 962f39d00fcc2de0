"""Which study `label` asks for next, without the server."""

from __future__ import annotations

from typing import Any

import pytest

from tools.label.serving.choosing import choose, choose_mixture
from tools.label.serving.requests import RequestError, check_options, check_weights
from tools.segment.disagreement import WEIGHTS


def record(model: str, head: float, tail: float) -> dict[str, Any]:
    return {"model": model, "organs": {"head": {"liver": head}, "tail": {"adrenal": tail}}}


def test_the_study_of_most_disagreement_is_next_by_the_weights_of_the_request() -> None:
    records = {"a": record("new", 0.9, 0.1), "b": record("new", 0.1, 0.5), "c": {"model": "new", "error": "damaged"}}
    assert choose(records, "new", WEIGHTS) == {"id": "b", "score": pytest.approx(0.4), "current": True}
    found = choose(records, "new", {"head": 1, "medium": 0, "tail": 0})
    assert found == {"id": "a", "score": pytest.approx(0.9), "current": True}


def test_scores_of_an_earlier_model_count_only_while_there_are_no_others() -> None:
    records = {"a": record("old", 0.9, 0.9), "b": record("old", 0.5, 0.5), "c": {}}
    assert choose(records, "new", WEIGHTS) == {"id": "a", "score": pytest.approx(0.9), "current": False}
    records["b"] = record("new", 0.2, 0.2)
    assert choose(records, "new", WEIGHTS) == {"id": "b", "score": pytest.approx(0.2), "current": True}


def test_without_scores_it_is_the_first_and_without_studies_none() -> None:
    assert choose({"b": {}, "a": {}}, "new", WEIGHTS) == {"id": "a", "score": None, "current": False}
    damaged = {"a": {"model": "new", "error": "damaged"}}
    assert choose(damaged | {"b": {}}, "new", WEIGHTS) == {"id": "b", "score": None, "current": False}
    assert choose(damaged, "new", WEIGHTS) == {"id": "a", "score": None, "current": False}
    assert choose({}, "new", WEIGHTS) is None


def test_of_equal_scores_the_first_by_name_is_next() -> None:
    found = choose({"b": record("new", 0.5, 0.5), "a": record("new", 0.5, 0.5)}, "new", WEIGHTS)
    assert found is not None
    assert found["id"] == "a"


# On a line, with a label at 0: a group of three far from it, "e" beyond, and "a" beside the label, which is in doubt.
PLACES = {"label": 0.0, "a": 1.0, "b": 10.0, "c": 11.0, "d": 12.0, "e": 30.0}
DOUBTS = {"a": 0.9, "b": 0.5, "c": 0.5, "d": 0.5, "e": 0.1}


def on_a_line(*studies: str) -> dict[str, list[float]]:
    return {study: [PLACES[study]] for study in studies or PLACES}


def doubted(model: str, *studies: str) -> dict[str, Any]:
    """Records of studies; of the tail only "e" is in doubt."""
    return {study: record(model, DOUBTS[study], float(study == "e")) for study in studies or DOUBTS}


HEAD, TAIL = {"head": 1, "medium": 0, "tail": 0}, {"head": 0, "medium": 0, "tail": 1}


def test_the_mixture_asks_for_what_is_typical_of_the_doubtful_studies_far_from_a_label() -> None:
    records, features = doubted("new"), {"new": on_a_line()}
    assert choose(records, "new", HEAD) == {"id": "a", "score": pytest.approx(0.9), "current": True}
    found = choose_mixture(records, ["label"], features, "new", HEAD)
    # Of 0.9 * 1 + 0.5 * (10 + 11 + 12) + 0.1 * 30 there are left 0.9 * 1 + 0.5 * (1 + 0 + 1) + 0.1 * 19.
    assert found == {"id": "c", "score": pytest.approx(1 - 3.8 / 20.4), "current": True}
    assert choose_mixture(records, ["label"], features, "new", TAIL) == {"id": "e", "score": 1, "current": True}
    del records["c"]
    found = choose_mixture(records, ["label", "c"], features, "new", HEAD)
    assert found == {"id": "e", "score": pytest.approx(1.9 / 3.8), "current": True}


def test_what_is_no_study_any_more_counts_nothing_in_the_mixture() -> None:
    features = {"new": {**on_a_line(), "gone": [0.5], "far": [1000.0]}}
    found = choose_mixture(doubted("new"), ["label"], features, "new", HEAD)
    assert found == choose_mixture(doubted("new"), ["label"], {"new": on_a_line()}, "new", HEAD)


def test_the_mixture_goes_by_the_model_whose_scores_most_studies_have() -> None:
    features = {"older": on_a_line(), "old": on_a_line()}
    records = doubted("old", "a", "b", "c", "d") | doubted("older", "e")
    found = choose_mixture(records, ["label"], features, "new", HEAD)
    assert found == {"id": "c", "score": pytest.approx(1 - 1.9 / 17.4), "current": False}
    only_labelled = features | {"new": on_a_line("label")}
    assert choose_mixture(records, ["label"], only_labelled, "new", HEAD) == found
    features["new"] = on_a_line("label", "a")
    assert choose_mixture(records, ["label"], features, "new", HEAD) == found  # the record is still of the old one
    records["a"] = record("new", 0.9, 0)
    kept = choose_mixture(records, ["label"], features, "new", HEAD)  # one study against three
    assert kept == {"id": "c", "score": pytest.approx(1 - 1.0 / 16.5), "current": False}
    features["new"] = on_a_line("label", "a", "b")
    records["b"] = record("new", 0.5, 0)
    found = choose_mixture(records, ["label"], features, "new", HEAD)  # two against two
    assert found == {"id": "b", "score": pytest.approx(1 - 0.9 / 5.9), "current": True}


def test_without_scores_or_features_the_mixture_asks_for_the_first_that_can_be_read() -> None:
    first = {"id": "b", "score": None, "current": False}
    records = {"a": {"model": "new", "error": "damaged"}, "c": {}, "b": {}}
    assert choose_mixture(records, ["label"], {"new": on_a_line("label")}, "new", HEAD) == first
    assert choose_mixture(records, [], {}, "", HEAD) == first
    assert choose_mixture(doubted("new", "b", "c"), [], {}, "new", HEAD) == first
    assert choose_mixture(doubted("new", "b", "c"), ["label"], {"new": on_a_line("label")}, "new", HEAD) == first
    damaged = {"a": records["a"]}
    assert choose_mixture(damaged | doubted("new", "c"), [], {"new": on_a_line("c")}, "new", HEAD) == {
        "id": "c",
        "score": 0,
        "current": True,
    }
    assert choose_mixture(damaged, [], {"new": on_a_line("c")}, "new", HEAD) == first | {"id": "a"}
    assert choose_mixture({}, ["label"], {"new": on_a_line()}, "new", HEAD) is None


def test_of_equal_gains_the_first_by_name_is_next() -> None:
    records = {study: record("new", 0.5, 0.5) for study in "cba"}
    found = choose_mixture(records, ["d"], {"new": {study: [2.0, 3.0] for study in "dcba"}}, "new", WEIGHTS)
    assert found == {"id": "a", "score": 0, "current": True}


@pytest.mark.parametrize(
    "params",
    [
        {"tail": -1},
        {"tail": "$1"},
        {"tail": True},
        {"tail": [1]},
        {"tail": float("nan")},
        {"tail": float("inf")},
        {"tial": 3},
        {"strategy": "random"},
        {"large": 1},
        {"head": 0, "medium": 0, "tail": 0},
    ],
)
def test_weights_are_numbers_of_known_groups(params: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        check_weights(params, {name: WEIGHTS[name] for name in ("head", "medium", "tail")})


def test_what_viewers_send_along_is_taken() -> None:
    assert check_weights({"tail": 5, "client_id": "slicer", "label_tag": "final"}, WEIGHTS) == {"tail": 5}
    assert check_options({"device": "cpu"}, {"device": ["cpu"]}) == {"device": "cpu"}
    with pytest.raises(RequestError):
        check_options({"devise": "cpu"}, {"device": ["cpu"]})
