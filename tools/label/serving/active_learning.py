"""Scoring by the disagreement of the experts, and the strategies that choose the next study by it."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.others.generic import device_list, name_to_device

from scripts.group_names import GROUP_NAMES

from ...segment.disagreement import WEIGHTS, by_group, overall
from .choosing import NAME, choose, choose_mixture, is_scored
from .features import are_features, read_features

logger = logging.getLogger(__name__)

NICENESS = 10  # of a scoring, which runs beside a server that somebody waits for
Records = dict[str, dict[str, Any]]  # by study


class Disagreement(ScoringMethod):
    """Segments each study as `tools segment` does, and records how much the experts disagree on it, and its features.

    A study's information gets "disagreement": {"overall", "organs": {group: {structure: score}}, "model": hash}; where
    it could not be segmented, "error" stands for the scores. The encoder's features go into a file (see `features`).
    Studies with a label are scored, too, and first: the mixture needs their features. What the current model has dealt
    with is left alone.

    Args:
        root: folder of the bundle.
        names: of the classes, by number.
        features: folder of the features of these studies.
    """

    def __init__(self, root: Path, names: Mapping[int, str], features: Path) -> None:
        super().__init__("How much the experts disagree on each study, and what the encoder makes of it")
        self.root, self.names, self.features = root, names, features

    def info(self) -> dict[str, Any]:
        """See ScoringMethod.info; with the options and their defaults."""
        return {**super().info(), "config": self.config()}

    def config(self) -> dict[str, Any]:
        """The options of a request, with their defaults."""
        return {"device": device_list()}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score what is to be scored, in a process of its own; the records by study.

        A label that is saved, a study that is added and a model that is trained meanwhile are taken into account.
        """
        from scripts.errors import first_line
        from scripts.files import write_json

        from ...segment.options import Options
        from ...segment.segmenter import Segmenter

        os.nice(NICENESS)
        device = name_to_device(request.get("device") or device_list())
        segmenter, records = None, {}
        for study, model in self._to_score(datastore):
            if segmenter is None or segmenter.weights != model:
                segmenter = Segmenter(self.root, Options(device=device, settings=["backend=torch"]))  # has features
                segmenter.collect_features()
                file = self.features / f"{segmenter.weights}.json"
                rows = read_features(file)
            record: dict[str, Any] = {"model": segmenter.weights}
            try:
                result = segmenter(Path(datastore.get_image_uri(study)))
                organs = by_group(result.disagreement or {}, segmenter.groups, self.names)
                row = [] if result.features is None else result.features.tolist()
                if not are_features(row):
                    raise ValueError("expected features that are finite numbers, found others")
                record |= {"overall": overall(organs), "organs": organs}
            except Exception as error:  # whatever is wrong with one study, the others are scored
                logger.exception("%s cannot be scored", study)
                record["error"] = first_line(error)
            else:
                rows[study] = row
                write_json(file, rows, "the features of the studies")
            datastore.refresh()  # another process may have saved a label
            if study in datastore.list_images():
                datastore.update_image_info(study, {NAME: record})
            logger.info("%s: %s", study, record)
            records[study] = record
        if segmenter:
            for earlier in set(self.features.glob("*.json")) - {file}:
                earlier.unlink()
        return records

    def _to_score(self, datastore: Datastore) -> Iterator[tuple[str, str]]:
        """The studies and the hash of the model to score each with, as things stand at that moment."""
        done = set[tuple[str, str]]()
        while left := [one for one in unscored(self.root, self.features, datastore) if one not in done]:
            done.add(left[0])
            yield left[0]


class AnyStudy(Random):
    """As MONAI Label's own, which fails where every study without a label was asked for within this second."""

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The id of a study at random, rather one that was not asked for of late; None where all have a label."""
        try:
            return super().__call__(request, datastore)
        except ValueError:  # weights of zero
            return {"id": random.choice(datastore.get_unlabeled_images())}


class ByDisagreement(Strategy):
    """Asks for a study by what scoring has recorded: that of most disagreement, or with features the mixture.

    See `choosing.choose` and `choosing.choose_mixture`.

    Args:
        root: folder of the bundle.
        features: folder of the features of these studies.
    """

    def __init__(self, root: Path, features: Path | None = None) -> None:
        super().__init__(f"The study {'most typical of those ' if features else ''}on which the experts disagree most")
        self.root, self.features = root, features

    def info(self) -> dict[str, Any]:
        """See Strategy.info; with the options and their defaults."""
        names = group_names(self.root) or GROUP_NAMES[3]
        return {**super().info(), "config": {name: WEIGHTS[name] for name in names}}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The id of the study, its score, and whether the current model gave it; None where all have a label."""
        datastore.refresh()  # what scoring, another process, has recorded
        unlabelled, labelled = records(datastore)
        model, weights = model_hash(self.root), {group: request.get(group, weight) for group, weight in WEIGHTS.items()}
        if self.features is None:
            return choose(unlabelled, model, weights)
        features = {file.stem: read_features(file) for file in self.features.glob("*.json")}
        return choose_mixture(unlabelled, labelled, features, model, weights)


def records(datastore: Datastore) -> tuple[Records, Records]:
    """What scoring recorded of each study without a label, and with one; empty for one that has not been scored."""
    unlabelled = set(datastore.get_unlabeled_images())
    found = {study: datastore.get_image_info(study).get(NAME, {}) for study in sorted(datastore.list_images())}
    labelled = {study: found.pop(study) for study in sorted(found.keys() - unlabelled)}
    return found, labelled


def unscored(root: Path, features: Path, datastore: Datastore) -> list[tuple[str, str]]:
    """The studies that the current model has not dealt with, those with a label first, and its hash."""
    model = model_hash(root)
    rows = read_features(features / f"{model}.json")
    unlabelled, labelled = records(datastore)
    found = (labelled | unlabelled).items()
    return [(study, model) for study, record in found if not is_scored(record, model, study in rows)]


def model_hash(root: Path) -> str:
    """The SHA-256 of the current model; "" where there is none."""
    from scripts.files import sha256

    model = root / "models" / "model.pt"
    return sha256(model) if model.exists() else ""


def group_names(root: Path) -> tuple[str, ...]:
    """The groups of classes of the current model, each with an expert; none without a model, or with another one."""
    from scripts.checkpoints import load_tensors

    model = root / "models" / "model.pt"
    owner = load_tensors(model).get("owner") if model.exists() else None
    return () if owner is None else GROUP_NAMES.get(len(owner.unique()), ())
