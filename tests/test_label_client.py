"""MONAI Label's own client, and what its plugins send along, on the real server; run by `make label-test`."""

from __future__ import annotations

import base64
import json
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
TOKEN = "0123456789abcdef-._~+/="


@pytest.fixture(scope="module")
def server(
    synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    """A server with a model and one labelled study, at every address of this machine, for those who have its token."""
    folder = tmp_path_factory.mktemp("client")
    bundle = tiny_bundle(folder / "dca_synapse")
    studies = copy_studies(abdomen_phantom, folder / "studies")
    label = {"label": abdomen_phantom / "labels" / f"{LABELLED}.nii.gz"}
    options = ["--model", str(synapse_run[0] / "models" / "model.pt"), "--host", "0.0.0.0"]
    with LabelServer(bundle, studies, folder / "work", *options, token=TOKEN) as running:
        running.form("PUT", f"/datastore/label?image={LABELLED}&tag=final", label).json()
        yield running


def test_own_client_infers_saves_and_trains_to_the_end(server: LabelServer, abdomen_phantom: Path) -> None:
    image, label = (abdomen_phantom / kind / "abdomen002.nii.gz" for kind in ("images", "labels"))
    command = [str(ROOT / ".venv-label" / "bin" / "python"), "-m", "tests.label_client"]
    done = shell(*command, f"http://127.0.0.1:{server.port}", TOKEN, str(image), str(label), cwd=ROOT)
    found = json.loads(done.check().out.splitlines()[-1])
    assert len(found["labels"]) == 13
    assert list(found["next"]) == ["mixture", "disagreement", "random", "first"]  # 3D Slicer begins with the first
    assert LABELLED not in found["next"].values()
    assert found["seen_by"] == "reader"
    assert min(found["inferred"], found["in_session"]) > 0
    assert found["uploaded"] == "uploaded"
    assert found["label"]
    assert (found["started"], found["trained"]) == (1, "DONE"), server.log.read_text()[-4000:]
    assert (found["all_started"], found["all_trained"]) == (1, "DONE"), server.log.read_text()[-4000:]
    assert (found["default_started"], found["stopped"]) == (["dca_synapse"], "STOPPED")
    assert "Scoring is not started" not in server.log.read_text()  # a training asks for it, and needs the token, too
    assert TOKEN not in server.log.read_text()


@pytest.mark.parametrize(
    "path", ["/", "/info/", "/openapi.json", "/ohif/", "/auth/token/valid", "/proxy/dicom/qido/studies"]
)
@pytest.mark.parametrize("authorization", ["", f"Bearer {TOKEN}x", "Basic Og=="])
def test_without_the_token_there_is_nothing_to_see(server: LabelServer, path: str, authorization: str) -> None:
    assert server.get(path, authorization=authorization).status == 401


def test_browser_brings_the_token_as_a_password(server: LabelServer) -> None:
    basic = "Basic " + base64.b64encode(f"reader:{TOKEN}".encode()).decode()
    assert server.get("/ohif/", authorization=basic).status == 200
    assert server.get("/info/", authorization=basic).json()["labels"]


def test_wrong_password_gets_no_token(server: LabelServer) -> None:
    wrong = f"username=reader&password={TOKEN[:-1]}".encode()
    kind = "application/x-www-form-urlencoded"
    answer = server.request("POST", "/auth/token", wrong, content_type=kind, authorization="")
    assert (answer.status, TOKEN.encode() in answer.body) == (401, False)


def test_at_every_address_pages_of_other_origins_are_kept_out(server: LabelServer) -> None:
    assert server.get("/info/", host="scans.example.org:8000").status == 200
    assert server.get("/info/", host="scans.example.org", origin="https://scans.example.org").status == 200
    assert server.get("/info/", host="scans.example.org", origin="https://elsewhere.example").status == 403


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/activelearning/first", {}),
        ("/activelearning/mixture", {"label_tag": "final", "labels": ["liver"]}),
        ("/scoring/disagreement", {}),
    ],
)
def test_what_clients_send_along_is_taken_by_every_request(
    server: LabelServer, path: str, params: dict[str, Any]
) -> None:
    server.post(path, params | ALONG).json()
    if path.startswith("/scoring/"):
        assert server.wait_for("scoring")["status"] == "DONE", server.log.read_text()[-4000:]


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
