"""Which study `label` asks for next, and how it scores them, without the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from scripts.errors import UserError
from scripts.files import sha256
from tools.label.serving.choosing import choose
from tools.label.serving.requests import RequestError, check_options, check_weights
from tools.segment.disagreement import WEIGHTS
from tools.segment.options import Options

NAMES = {1: "liver", 2: "adrenal"}


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

    def run(studies: Studies, segment: Callable[[str], dict[int, float]]) -> dict[str, Any]:
        from tools.label.serving import active_learning

        class Network:
            def __init__(self, root: Path, options: Options) -> None:
                self.groups = {1: "head", 2: "tail"}
                self.weights = active_learning.model_hash(root)

            def __call__(self, image: Path) -> SimpleNamespace:
                return SimpleNamespace(disagreement=segment(image.name.split(".")[0]))

        monkeypatch.setattr("tools.segment.segmenter.Segmenter", Network)
        found = active_learning.Disagreement(tmp_path, NAMES)({"method": "disagreement"}, studies)
        return dict(found)

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


def test_a_study_is_scored_once_by_each_model(score: Score, tmp_path: Path) -> None:
    studies = Studies("b", "a")
    studies.labelled = {"b"}
    train(tmp_path, 1)
    found = score(studies, lambda study: {1: 0.2, 2: 0.6})
    assert {study: record["organs"] for study, record in found.items()} == {
        "a": {"head": {"liver": 0.2}, "tail": {"adrenal": 0.6}}
    }
    assert studies.info["a"]["disagreement"]["overall"] == pytest.approx(0.5)
    assert score(studies, lambda study: {}) == {}
    train(tmp_path, 2)
    assert list(score(studies, lambda study: {})) == ["a"]
    assert studies.info["a"]["disagreement"]["overall"] == 1


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
    assert seen == ["a", "b", "a", "b", "d"]
    newest = sha256(tmp_path / "models" / "model.pt")
    assert {studies.info[study]["disagreement"]["model"] for study in "abd"} == {newest}
    assert "disagreement" not in studies.info["c"]


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
