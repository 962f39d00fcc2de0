"""What model.json says of the model beside it, as settings of inference.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED = {"method": "method", "preset": "preset", "network_options": "network"}  # all that older files have


def trained_settings(about: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of inference.json with the values that a model was trained with; none from an empty description."""
    return dict(about.get("inference") or {key: about[name] for key, name in NAMED.items() if name in about})
