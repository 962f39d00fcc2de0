"""Active learning on the real server of MONAI Label; run by `make label-test`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from tests.label_server import LabelServer, copy_studies, tiny_bundle
from tools.segment.disagreement import by_group, overall
from tools.segment.segmenter import Segmenter

pytestmark = pytest.mark.label_server

NEXT = "/activelearning/disagreement"
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


def test_asks_for_the_study_of_most_disagreement_and_scores_anew_with_a_new_model(server: LabelServer) -> None:
    # By name, as the server orders studies of equal scores.
    images = {path.name.split(".")[0]: path for path in sorted((server.log.parent / "studies").glob("*.nii.gz"))}
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
    tail = {"head": 0, "medium": 0, "tail": 1}
    assert server.post(NEXT, tail).json()["id"] == max(organs, key=lambda study: overall(organs[study], tail))

    label = server.log.parent / "label.nii.gz"
    nib.save(nib.Nifti1Image(found[expected[0]].labels, found[expected[0]].affine), label)
    server.form("PUT", f"/datastore/label?image={expected[0]}&tag=final", {"label": label}).json()
    assert server.post(NEXT, {"client_id": "viewer"}).json()["id"] == expected[1]
    server.post("/scoring/disagreement").json()
    assert scored_now(server) == []  # the model is the same, and one study has a label

    weights = torch.load(models(server) / "model.pt", weights_only=True)
    torch.save(
        {key: value * 1.01 if value.is_floating_point() else value for key, value in weights.items()},
        models(server) / "model.pt",
    )
    (models(server) / "model.json").unlink()
    assert server.post(NEXT).json()["current"] is False  # the old scores go on serving meanwhile
    assert sorted(scored_now(server)) == sorted(expected[1:])
    assert len({record(server, study)["model"] for study in expected[1:]} | {segmenter.weights}) == 2


def test_what_cannot_be_served_is_answered_and_the_server_lives_on(server: LabelServer) -> None:
    scored_now(server)
    for path, params in (
        (NEXT, {"tail": -1}),
        (NEXT, {"tail": float("inf")}),
        (NEXT, {"tial": 3}),
        (NEXT, {"head": 0, "medium": 0, "tail": 0}),
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
