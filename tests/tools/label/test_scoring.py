"""How `label` scores studies, and what it keeps of that, without the server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.files import sha256
from tools.label.serving.features import read_features
from tools.segment.disagreement import WEIGHTS
from tools.segment.options import Options

NAMES = {1: "liver", 2: "adrenal"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"a": [1.0]',
        "[[1.0]]",
        '{"a": [1.0], "b": [1.0, 2.0]}',
        '{"a": []}',
        '{"a": 1.0}',
        '{"a": [[1.0]]}',
        '{"a": ["1.0"]}',
        '{"a": [true]}',
        '{"a": [NaN]}',
        '{"a": [1e300]}',
        '{"a": [1.0], "a": [2.0]}',
    ],
)
def test_of_a_damaged_or_foreign_file_no_features_are_taken(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "model.json"
    assert read_features(file) == {}
    assert caplog.text == ""
    file.write_text('{"a": [1.0, -2.5], "b": [0.0, 3e38]}')
    assert read_features(file) == {"a": [1.0, -2.5], "b": [0.0, 3e38]}
    file.write_text(text)
    assert read_features(file) == {}
    assert "expected" in caplog.text


class Studies:
    """A datastore as far as scoring uses it, in which things may happen while a study is segmented."""

    def __init__(self, *names: str) -> None:
        self.info: dict[str, dict[str, Any]] = {name: {} for name in names}
        self.labelled = set[str]()

    def get_unlabeled_images(self) -> list[str]:
        return [name for name in self.info if name not in self.labelled]

    def list_images(self) -> list[str]:
        return list(self.info)

    def get_image_info(self, name: str) -> dict[str, Any]:
        return dict(self.info[name])

    def get_image_uri(self, name: str) -> str:
        return f"{name}.nii.gz"

    def update_image_info(self, name: str, info: dict[str, Any]) -> None:
        self.info[name].update(info)

    def refresh(self) -> None:
        pass


Score = Callable[..., dict[str, Any]]


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Runs the scoring in the form that MONAI Label 0.8.5 calls it in, with a network that does as it is told."""
    task = type("Task", (), {"__init__": lambda self, description: None})
    names = {"interfaces.datastore": {"Datastore": object}, "interfaces.tasks.scoring": {"ScoringMethod": task}}
    names |= {"interfaces.tasks.strategy": {"Strategy": task}, "tasks.activelearning.random": {"Random": task}}
    names["utils.others.generic"] = {"device_list": lambda: ["cpu"], "name_to_device": lambda device: "cpu"}
    for name, content in names.items():
        module = ModuleType(f"monailabel.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("os.nice", lambda by: 0)
    (tmp_path / "models").mkdir()

    def run(
        studies: Studies, segment: Callable[[str], dict[int, float]], features: Mapping[str, float] | None = None
    ) -> dict[str, Any]:
        from tools.label.serving import active_learning

        class Network:
            def __init__(self, root: Path, options: Options) -> None:
                self.groups = {1: "head", 2: "tail"}
                self.weights = active_learning.model_hash(root)

            def collect_features(self) -> None:
                pass

            def __call__(self, image: Path) -> SimpleNamespace:
                study = image.name.split(".")[0]
                row = np.array([ord(study), (features or {}).get(study, 0.5)], dtype=np.float32)
                return SimpleNamespace(disagreement=segment(study), features=row)

        monkeypatch.setattr("tools.segment.segmenter.Segmenter", Network)
        scoring = active_learning.Disagreement(tmp_path, NAMES, tmp_path / "features")
        return dict(scoring({"method": "disagreement"}, studies))

    return run


@pytest.mark.parametrize("owner", [[0, 0], [1, 0], [0, 1, 2], [0, 1, 2, 3], [4, 3, 2, 1, 0, 0]])
def test_a_request_may_weigh_the_groups_of_the_current_model(score: Score, tmp_path: Path, owner: list[int]) -> None:
    from tools.label.serving import active_learning

    torch.save({"owner": torch.tensor(owner)}, tmp_path / "models" / "model.pt")
    names = active_learning.group_names(tmp_path)
    assert len(names) == len(set(owner))
    assert set(names) <= set(WEIGHTS)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "models" / "model.pt")
    assert active_learning.group_names(tmp_path) == ()


def train(folder: Path, version: int) -> None:
    torch.save({"owner": torch.tensor([0, 1]), "version": torch.tensor(version)}, folder / "models" / "model.pt")


def features_of(folder: Path) -> dict[str, list[float]]:
    """What the only file of features holds, which has to be that of the current model."""
    (file,) = (folder / "features").iterdir()
    assert file.name == sha256(folder / "models" / "model.pt") + ".json"
    return dict(json.loads(file.read_text()))


def test_a_study_is_scored_once_by_each_model_and_one_with_a_label_first(score: Score, tmp_path: Path) -> None:
    studies = Studies("b", "a")
    studies.labelled = {"b"}
    train(tmp_path, 1)
    found = score(studies, lambda study: {1: 0.2, 2: 0.6})
    assert list(found) == ["b", "a"]
    assert found["a"]["organs"] == {"head": {"liver": 0.2}, "tail": {"adrenal": 0.6}}
    assert studies.info["a"]["disagreement"]["overall"] == pytest.approx(0.5)
    assert features_of(tmp_path) == {"a": [97, 0.5], "b": [98, 0.5]}
    assert score(studies, lambda study: {}) == {}
    train(tmp_path, 2)
    assert list(score(studies, lambda study: {}, {"a": 0.25})) == ["b", "a"]
    assert studies.info["a"]["disagreement"]["overall"] == 1
    assert features_of(tmp_path) == {"a": [97, 0.25], "b": [98, 0.5]}


def test_features_are_part_of_a_score_and_not_of_what_viewers_are_sent(score: Score, tmp_path: Path) -> None:
    studies = Studies("a", "b")
    train(tmp_path, 1)
    score(studies, lambda study: {1: 0.5})
    assert set(studies.info["a"]["disagreement"]) == {"model", "overall", "organs"}
    (file,) = (tmp_path / "features").iterdir()
    file.write_text(json.dumps({"b": [98.0, 0.5]}))
    assert list(score(studies, lambda study: {1: 0.5})) == ["a"]
    file.write_text('{"a": [97.0, 0.5], "b": [98.0]}')
    assert list(score(studies, lambda study: {1: 0.5})) == ["a", "b"]
    file.unlink()
    assert list(score(studies, lambda study: {1: 0.5})) == ["a", "b"]


def test_what_happens_during_a_scoring_is_taken_into_account(score: Score, tmp_path: Path) -> None:
    studies, seen = Studies("a", "b", "c"), []

    def segment(study: str) -> dict[int, float]:
        seen.append(study)
        if len(seen) == 2:
            train(tmp_path, 2)
            studies.labelled.add("c")
            studies.info["d"] = {}
        return {1: 0.5}

    train(tmp_path, 1)
    score(studies, segment)
    assert seen == ["a", "b", "c", "a", "b", "d"]
    newest = sha256(tmp_path / "models" / "model.pt")
    assert {studies.info[study]["disagreement"]["model"] for study in "abcd"} == {newest}
    assert sorted(features_of(tmp_path)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("feature", [float("nan"), float("inf")])
def test_a_study_whose_features_do_not_compare_counts_as_one_that_cannot_be_read(
    feature: float, score: Score, tmp_path: Path
) -> None:
    studies = Studies("a", "b")
    train(tmp_path, 1)
    score(studies, lambda study: {1: 0.5}, {"a": feature})
    assert "expected features that are finite" in studies.info["a"]["disagreement"]["error"]
    assert list(features_of(tmp_path)) == ["b"]
    assert score(studies, lambda study: {}) == {}


def test_a_study_that_cannot_be_segmented_stops_no_other_and_is_not_tried_again(score: Score, tmp_path: Path) -> None:
    def segment(study: str) -> dict[int, float]:
        if study == "a":
            raise UserError("a.nii.gz: expected CT, found MR")
        return {1: 0.5}

    studies = Studies("a", "b")
    train(tmp_path, 1)
    assert list(score(studies, segment)) == ["a", "b"]
    assert studies.info["a"]["disagreement"]["error"] == "a.nii.gz: expected CT, found MR"
    assert "overall" not in studies.info["a"]["disagreement"]
    assert score(studies, segment) == {}
