"""Which study to label next, out of what scoring has recorded of the studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...segment.disagreement import overall

NAME = "disagreement"  # of the scoring method, of the strategy, and of the record in a study's information


def is_scored(record: Mapping[str, Any], model: str) -> bool:
    """Whether scoring has dealt with the study with this model, be it that it could not read the study."""
    return record.get("model") == model


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
    current = {study: record for study, record in known.items() if is_scored(record, model)}
    scores = {study: overall(record["organs"], weights) for study, record in (current or known).items()}
    if not scores:
        readable = [study for study, record in records.items() if "error" not in record]
        return {"id": min(readable or records), "score": None, "current": False} if records else None
    study = min(scores, key=lambda study: (-scores[study], study))
    return {"id": study, "score": scores[study], "current": bool(current)}
