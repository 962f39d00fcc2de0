"""Which study to label next, out of what scoring has recorded of the studies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...segment.disagreement import overall

NAME = "disagreement"  # of the scoring method, of a strategy, and of the record in a study's information
MIXTURE = "mixture"  # the other strategy that chooses by it


def is_scored(record: Mapping[str, Any], model: str, has_features: bool) -> bool:
    """Whether scoring has dealt with the study with this model, be it that it could not read the study."""
    return record.get("model") == model and (has_features or "error" in record)


def choose(records: Mapping[str, Mapping[str, Any]], model: str, weights: Mapping[str, float]) -> dict[str, Any] | None:
    """The study on which the experts disagree most.

    Scores of different models do not compare, so those of the current model go first, whatever the others are. Those of
    earlier models count only where it has none yet. Without any score it is the first study by name, of
    those that could be read.

    Args:
        records: of each study without a label what scoring recorded: "organs", its scores by group and structure, and
            "model", the hash of the model; empty for one that has not been scored.
        model: hash of the current model.
        weights: of the groups.

    Returns:
        "id", "score" (None without one) and "current", whether the score is the current model's; None of no study.
    """
    known = {study: record for study, record in records.items() if "organs" in record}
    current = {study: record for study, record in known.items() if record.get("model") == model}
    scores = {study: overall(record["organs"], weights) for study, record in (current or known).items()}
    if not scores:
        return _first(records)
    study = min(scores, key=lambda study: (-scores[study], study))
    return {"id": study, "score": scores[study], "current": bool(current)}


def choose_mixture(
    records: Mapping[str, Mapping[str, Any]],
    labelled: Collection[str],
    features: Mapping[str, Mapping[str, Sequence[float]]],
    model: str,
    weights: Mapping[str, float],
) -> dict[str, Any] | None:
    """The study most typical of those far from a label, where each counts by the disagreement on it.

    That is `coverage.next_by_gain` of the features and scores of one model, the one whose scores most studies have: a
    new model replaces an earlier one when it has scored half of the studies. Without any score it is as in `choose`.

    Args:
        records: as in `choose`.
        labelled: the studies with a label.
        features: by the hash of the model, of the studies with and without a label.
        model: hash of the current model, "" of none.
        weights: of the groups.

    Returns:
        As `choose`; the score is the study's gain.
    """
    from ...segment.coverage import next_by_gain

    doubts = {
        one: {
            study: overall(record["organs"], weights)
            for study, record in records.items()
            if "organs" in record and record.get("model") == one and study in rows
        }
        for one, rows in features.items()
    }
    scored = [one for one in doubts if doubts[one]]
    if not scored:
        return _first(records)
    by = max(scored, key=lambda one: (len(doubts[one]), one == model))
    rows = {study: row for study, row in features[by].items() if study in doubts[by] or study in labelled}
    study, gain = next_by_gain(rows, labelled, doubts[by])
    return {"id": study, "score": gain, "current": by == model}


def _first(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    readable = [study for study, record in records.items() if "error" not in record]
    return {"id": min(readable or records), "score": None, "current": False} if records else None
