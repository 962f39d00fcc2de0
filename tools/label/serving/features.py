"""The encoder's features of the studies, by which the mixture chooses: a file for each model, in the server's folder.

They are not in the information of a study, where its scores are. MONAI Label sends that to viewers, with the list of
studies and with each next study, and writes it for all studies whenever it changes for one; features are much longer
than scores. Those of two models do not compare, so each model has a file, named by its hash.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json

logger = logging.getLogger(__name__)

MOST = 3.5e38  # of float32, so that squares of float64 stay finite


def read_features(file: Path) -> dict[str, list[float]]:
    """The features of each study; none where the file is missing or anything in it is wrong, so they are made again."""
    try:
        found = read_json(file, "file of features") if file.exists() else {}
    except UserError as error:
        logger.warning("%s", error)
        return {}
    if not all(map(are_features, found.values())) or len({len(row) for row in found.values()}) > 1:
        logger.warning("%s: expected as many numbers for each study, found something else", file)
        return {}
    return found


def are_features(row: Any) -> bool:
    """Whether these are numbers to compare studies by."""
    return isinstance(row, list) and bool(row) and all(type(value) is float and abs(value) < MOST for value in row)
