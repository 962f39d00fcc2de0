"""MONAI Label's own client, and what its plugins send along, on the real server; run by `make label-test`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bundle_commands import shell
from tests.bundle_runner import ROOT
from tests.label_server import LabelServer, copy_studies, tiny_bundle

pytestmark = pytest.mark.label_server

LABELLED = "abdomen001"
ALONG = {"client_id": "reader"}
ON_CPU = {"device": "cpu", "multi_gpu": False}


@pytest.fixture(scope="module")
def server(
    synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    """A server with a model and one labelled study."""
    folder = tmp_path_factory.mktemp("client")
    bundle = tiny_bundle(folder / "dca_synapse")
    studies = copy_studies(abdomen_phantom, folder / "studies")
    label = {"label": abdomen_phantom / "labels" / f"{LABELLED}.nii.gz"}
    with LabelServer(bundle, studies, folder / "work", "--model", str(synapse_run[0] / "models/model.pt")) as running:
        running.form("PUT", f"/datastore/label?image={LABELLED}&tag=final", label).json()
        yield running


def test_own_client_infers_saves_and_trains_to_the_end(server: LabelServer, abdomen_phantom: Path) -> None:
    image, label = (abdomen_phantom / kind / "abdomen002.nii.gz" for kind in ("images", "labels"))
    command = [str(ROOT / ".venv-label" / "bin" / "python"), "-m", "tests.label_client"]
    done = shell(*command, f"http://127.0.0.1:{server.port}", str(image), str(label), cwd=ROOT)
    found = json.loads(done.check().out.splitlines()[-1])
    assert len(found["labels"]) == 13
    assert set(found["next"]) == {"random", "first", "disagreement"}
    assert LABELLED not in found["next"].values()
    assert found["seen_by"] == "reader"
    assert min(found["inferred"], found["in_session"]) > 0
    assert found["uploaded"] == "uploaded"
    assert found["label"]
    assert (found["started"], found["trained"]) == (1, "DONE"), server.log.read_text()[-4000:]
    assert (found["all_started"], found["all_trained"]) == (1, "DONE"), server.log.read_text()[-4000:]
    assert (found["default_started"], found["stopped"]) == (["dca_synapse"], "STOPPED")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/activelearning/first", {}),
        ("/activelearning/disagreement", {"label_tag": "final", "labels": ["liver"]}),
        ("/scoring/disagreement", {}),
        ("/scoring/", {}),
        ("/batch/infer/dca_synapse", {"images": [LABELLED], **ON_CPU}),
    ],
)
def test_what_clients_send_along_is_taken_by_every_request(
    server: LabelServer, path: str, params: dict[str, Any]
) -> None:
    server.post(path, params | ALONG).json()
    if (kind := path.split("/")[1]) != "activelearning":
        state = server.wait_for({"batch": "batch/infer"}.get(kind, kind))
        assert state["status"] == "DONE", server.log.read_text()[-4000:]


@pytest.mark.parametrize("path", ["/train/", "/train"])
@pytest.mark.parametrize(
    ("params", "status", "message"),
    [
        ({"nope": {}}, 404, b"model: expected 'dca_synapse', found 'nope'"),
        ({"max_epochs": 1}, 404, b"found 'max_epochs'"),
        ({"dca_synapse": 3}, 400, b"dca_synapse: expected a JSON object, found 3"),
        ({"dca_synapse": {"max_epochs": "$1"}}, 400, b"max_epochs: expected"),
        ({"dca_synapse": {"run_id": "initialize"}}, 400, b"run_id: expected one of"),
    ],
)
def test_training_of_all_models_checks_the_options_of_each(
    server: LabelServer, path: str, params: dict[str, Any], status: int, message: bytes
) -> None:
    answer = server.post(path, params | ALONG)
    assert (answer.status, message in answer.body) == (status, True), answer.body


def test_model_in_the_path_is_the_one_that_is_checked(server: LabelServer) -> None:
    assert server.post("/train/nope", {"model": "dca_synapse"}).status == 404


def test_batch_inference_takes_studies_and_no_paths(server: LabelServer) -> None:
    for image in (f"{tempfile.gettempdir()}/../x.nii.gz", f"{tempfile.gettempdir()}/x.nii.gz", 3):
        answer = server.post("/batch/infer/dca_synapse", {"images": [image], **ON_CPU})
        assert (answer.status, b"image: expected a plain name" in answer.body) == (400, True), answer.body
    assert server.post("/batch/infer/dca_synapse", {"images": ["nope"]}).status == 404
    assert server.post("/batch/infer/dca_synapse", {"images": {"nope": 1}}).status == 400
