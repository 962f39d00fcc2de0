"""The studies of a server as the two streams of a training: those with a label, and all others."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.datalists import copies_across_roles
from scripts.files import write_json

logger = logging.getLogger(__name__)


def write_streams(
    folder: Path, labelled: Mapping[str, tuple[str, str]], unlabelled: Mapping[str, str], share: float
) -> dict[str, Any]:
    """Write the studies as a datalist and a split, the files that every training of this project reads.

    They are data to the bundle's config, not part of it: a file name is never evaluated.

    Args:
        folder: of the two files.
        labelled: image and label file of each study that has a label.
        unlabelled: image file of each study that has none.
        share: of the labelled studies that validates and does not train.

    Returns:
        The overrides of `train.json` that make it read them.

    Raises:
        ValueError: no labelled study.
    """
    validation = validation_studies(list(labelled), share)
    own = [study for study in labelled if study not in validation] or list(labelled)
    copies = _copies(validation, labelled, unlabelled)
    own = [study for study in own if study not in copies] or own
    train = [*own, *(study for study in unlabelled if study not in copies)]
    cases = [
        {"id": study, "patient": study, "image": image, "label": label} for study, (image, label) in labelled.items()
    ]
    cases += [{"id": study, "patient": study, "image": image} for study, image in unlabelled.items()]
    percent = float(f"{100 * len(own) / len(train):.10g}")
    split = {"train": train, "validation": validation, "test": [], "labelled": {f"{percent:.10g}": own}}
    shared = not set(own).isdisjoint(validation)  # of too few studies, or as asked for: every reader is told
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "datalist.json", {"cases": cases})
    about = {"source": "studies of a MONAI Label server", "validation_trains": shared}
    write_json(folder / "split.json", about | split)
    return {"datalist": str(folder / "datalist.json"), "split_file": str(folder / "split.json"), "percent": percent}


def _copies(
    validation: Sequence[str], labelled: Mapping[str, tuple[str, str]], unlabelled: Mapping[str, str]
) -> set[str]:
    """Studies whose image is that of one that validates: to train on them would make its score say nothing."""
    images = {study: image for study, (image, _) in labelled.items()} | dict(unlabelled)
    cases = {study: {"id": study, "image": image} for study, image in images.items()}
    others = [case for study, case in cases.items() if study not in validation]
    groups = copies_across_roles({"labelled": others, "validation": [cases[study] for study in validation]})
    found = {study for group in groups for study, role in group if role == "training"}
    if found:
        logger.warning("not trained on, since a study that validates has the same image: %s", ", ".join(sorted(found)))
    return found


def validation_studies(labelled: Sequence[str], share: float) -> list[str]:
    """The labelled studies that validate: at least one, and all of them if there is only one, which then trains, too.

    A study's place depends only on its name, so that a newly labelled one seldom moves the others.
    """
    if not labelled:
        raise ValueError("no labelled study")
    if len(labelled) == 1 or share <= 0:
        return list(labelled)
    ranked = sorted(labelled, key=lambda study: hashlib.sha256(study.encode()).hexdigest())
    return ranked[: max(1, min(len(ranked) - 1, round(share * len(ranked))))]
