"""Active learning on the real server of MONAI Label; run by `make label-test`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.label_server import LabelServer, copy_studies, tiny_bundle
from tools.segment.disagreement import by_group, overall
from tools.segment.segmenter import Result, Segmenter

pytestmark = pytest.mark.label_server

NEXT, MIXTURE = "/activelearning/disagreement", "/activelearning/mixture"
TAIL = {"head": 0, "medium": 0, "tail": 1}
NAMES = {c: str(c) for c in range(1, 14)}
QUIETER = 0.3  # of D_A's last convolution: below, D_A changes nothing, and far above, everything


@pytest.fixture
def server(synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path: Path) -> Iterator[LabelServer]:
    bundle = tiny_bundle(tmp_path / "dca_synapse")
    studies = copy_studies(abdomen_phantom, tmp_path / "studies")
    # After so few steps D_A would overrule the experts everywhere, in all studies alike. With less to say it leaves
    # some of their answer, more in one study than in another.
    trained = tmp_path / "trained"
    shutil.copytree(synapse_run[0] / "models", trained)
    weights = torch.load(trained / "model.pt", weights_only=True)
    quieter = {key: QUIETER * value if key.startswith("aggregation.out.") else value for key, value in weights.items()}
    torch.save(quieter, trained / "model.pt")
    with LabelServer(bundle, studies, tmp_path / "work", "--model", str(trained / "model.pt")) as running:
        yield running


def models(server: LabelServer) -> Path:
    return server.log.parent / "work" / "model" / "dca_synapse" / "models"


def record(server: LabelServer, study: str) -> dict[str, Any]:
    """What scoring left of a study."""
    found: dict[str, Any] = server.get(f"/datastore/image/info?image={study}").json().get("disagreement", {})
    return found


def scored_now(server: LabelServer) -> list[str]:
    """The studies that the last scoring dealt with."""
    state = server.wait_for("scoring")
    assert state["status"] == "DONE", server.log.read_text()[-4000:]
    return [line.split(": {'model'")[0].split(" - ")[-1] for line in state["details"] if ": {'model'" in line]


def images_of(server: LabelServer) -> dict[str, Path]:
    """By name, as the server orders studies of equal scores."""
    return {path.name.split(".")[0]: path for path in sorted((server.log.parent / "studies").glob("*.nii.gz"))}


def save_label(server: LabelServer, study: str, result: Result) -> None:
    label = server.log.parent / "label.nii.gz"
    nib.save(nib.Nifti1Image(result.labels, result.affine), label)
    server.form("PUT", f"/datastore/label?image={study}&tag=final", {"label": label}).json()


def train(server: LabelServer) -> None:
    """Put another model in the place of the current one, as a training would."""
    weights = torch.load(models(server) / "model.pt", weights_only=True)
    torch.save(
        {key: value * 1.01 if value.is_floating_point() else value for key, value in weights.items()},
        models(server) / "model.pt",
    )
    (models(server) / "model.json").unlink()


def test_asks_for_the_study_of_most_disagreement_and_scores_anew_with_a_new_model(server: LabelServer) -> None:
    images = images_of(server)
    assert sorted(scored_now(server)) == sorted(images)  # without being asked, after its start
    segmenter = Segmenter(models(server).parent)
    found = {study: segmenter(image) for study, image in images.items()}
    organs = {s: by_group(result.disagreement or {}, segmenter.groups, NAMES) for s, result in found.items()}
    expected = sorted(organs, key=lambda study: -overall(organs[study]))
    for study in images:
        assert record(server, study)["overall"] == pytest.approx(overall(organs[study]))
        assert record(server, study)["model"] == segmenter.weights
        assert {g: sorted(named.values()) for g, named in record(server, study)["organs"].items()} == {
            group: sorted(named.values()) for group, named in organs[study].items()
        }
    first = server.post(NEXT).json()
    assert (first["id"], first["score"], first["current"]) == (
        expected[0],
        pytest.approx(overall(organs[expected[0]])),
        True,
    )
    assert server.post(NEXT, TAIL).json()["id"] == max(organs, key=lambda study: overall(organs[study], TAIL))

    save_label(server, expected[0], found[expected[0]])
    assert server.post(NEXT, {"client_id": "viewer"}).json()["id"] == expected[1]
    server.post("/scoring/disagreement").json()
    assert scored_now(server) == []  # the model is the same

    train(server)
    assert server.post(NEXT).json()["current"] is False  # the old scores go on serving meanwhile
    assert scored_now(server) == [expected[0], *sorted(expected[1:])]
    assert len({record(server, study)["model"] for study in expected} | {segmenter.weights}) == 2


def test_the_mixture_asks_by_features_and_disagreement_and_by_the_label_that_is_saved(server: LabelServer) -> None:
    scored_now(server)
    segmenter = Segmenter(models(server).parent)
    segmenter.collect_features()
    found = {study: segmenter(image) for study, image in images_of(server).items()}
    organs = {s: by_group(result.disagreement or {}, segmenter.groups, NAMES) for s, result in found.items()}
    rows = np.stack([result.features for result in found.values() if result.features is not None])
    places = dict(zip(found, rows / np.maximum(rows.std(0), 1e-9), strict=True))
    most = max(np.linalg.norm(a - b) for a in places.values() for b in places.values())

    def left(labels: Sequence[str], **weights: float) -> float:
        """How far all studies are from the nearest of these labels, each as often as it is in doubt."""
        nearest = {s: min([most, *(np.linalg.norm(places[s] - places[one]) for one in labels)]) for s in places}
        return float(
            sum(overall(organs[s], {"head": 1, "medium": 2, "tail": 3} | weights) * nearest[s] for s in places)
        )

    first = min(found, key=lambda study: left([study]))
    answer = server.post(MIXTURE).json()
    assert (answer["id"], answer["current"]) == (first, True)
    assert answer["score"] == pytest.approx(1 - left([first]) / left([]), abs=1e-3)
    assert server.post(MIXTURE, TAIL).json()["id"] == min(found, key=lambda study: left([study], **TAIL))

    save_label(server, first, found[first])
    second = min(found.keys() - {first}, key=lambda study: left([first, study]))
    answer = server.post(MIXTURE, {"client_id": "viewer"}).json()
    assert (answer["id"], answer["current"]) == (second, True)
    assert answer["score"] == pytest.approx(1 - left([first, second]) / left([first]), abs=1e-3)
    assert b"features" not in server.get("/datastore/?output=all").body

    (file,) = (server.log.parent / "work" / "features").rglob("*.json")
    train(server)
    answer = server.post(MIXTURE).json()
    assert (answer["id"], answer["current"]) == (second, False)
    assert scored_now(server)[0] == first
    assert server.post(MIXTURE).json()["current"] is True
    assert [path.stem for path in file.parent.iterdir()] == [record(server, first)["model"]]


def test_what_cannot_be_served_is_answered_and_the_server_lives_on(server: LabelServer) -> None:
    scored_now(server)
    for path, params in (
        (NEXT, {"tail": -1}),
        (NEXT, {"tail": float("inf")}),
        (NEXT, {"tial": 3}),
        (NEXT, {"head": 0, "medium": 0, "tail": 0}),
        (MIXTURE, {"tail": "$1"}),
        ("/scoring/disagreement", {"device": "$1"}),
        ("/scoring/disagreement", {"most": 3}),
    ):
        answer = server.post(path, params)
        assert answer.status in (400, 422), (path, params, answer.body)
    torch.save({"weight": torch.zeros(1)}, models(server) / "model.pt")
    for found in (b"one without", b"none yet"):
        for path in (NEXT, "/scoring/disagreement"):
            answer = server.post(path)
            assert answer.status == 409, (path, answer.body)
            assert b"expected a model with experts (DCA), found " + found in answer.body
        (models(server) / "model.pt").unlink(missing_ok=True)
    assert server.post("/activelearning/first").json()["id"] == "abdomen001"
    assert server.post(MIXTURE).json()["current"] is False  # by the scores of the model that was there
    shutil.rmtree(server.log.parent / "work" / "features")
    answer = server.post(MIXTURE).json()  # as on a server that never had one
    assert (answer["id"], answer["score"], answer["current"]) == ("abdomen001", None, False)
