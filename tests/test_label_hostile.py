"""Requests of any shape on the real server of MONAI Label: 4xx, never 5xx, never a hang; run by `make label-test`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.bundle_commands import shell
from tests.bundle_runner import ROOT
from tests.label_server import LabelServer, copy_studies, tiny_bundle

pytestmark = pytest.mark.label_server

# What most requests need to get beyond "no such study"; no study has a label, so that no training starts.
CONFIG = """
[parameters]
image = "abdomen001"
model = "dca_synapse"
strategy = "mixture"
method = "disagreement"
"""
SCHEMATHESIS = [
    *("--phases", "coverage,fuzzing"),
    *("--max-examples", "20", "--generation-deterministic"),
    *("--checks", "not_a_server_error"),
    *("--request-timeout", "30"),  # seconds; an answer that takes longer is a failure
    *("--warnings", "off", "--no-color"),
]
PRINT_ROUTES = """
import json, {module}
from fastapi.routing import iter_route_contexts
found = list(iter_route_contexts({module}.app.routes))
print(json.dumps([(method, one.path) for one in found for method in getattr(one, "methods", None) or ["GET"]]))
"""
FORM = "multipart/form-data; boundary=mark"
INFER = "/infer/dca_synapse?image=abdomen001&output=json"
LABEL = "/datastore/label?image=abdomen002"


@pytest.fixture(scope="module")
def server(
    synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    """A server with a model and no label."""
    folder = tmp_path_factory.mktemp("hostile")
    bundle, studies = tiny_bundle(folder / "dca_synapse"), copy_studies(abdomen_phantom, folder / "studies")
    with LabelServer(bundle, studies, folder / "work", "--model", str(synapse_run[0] / "models/model.pt")) as running:
        yield running
        assert running.get("/datastore/?output=all").status == 200  # nothing was kept that cannot be sent
        assert "Exception in ASGI application" not in running.log.read_text()  # as uvicorn tells of a 500


def routes(module: str) -> set[tuple[str, str]]:
    """Methods and paths that a web application serves."""
    done = shell(
        str(ROOT / ".venv-label/bin/python"), "-W", "ignore", "-c", PRINT_ROUTES.format(module=module), cwd=ROOT
    )
    return {(method, path) for method, path in json.loads(done.check().out.splitlines()[-1]) if method != "HEAD"}


def described() -> set[tuple[str, str]]:
    """Those that the documentation lists, with a reason for each."""
    page = (ROOT / "docs" / "how-to" / "label.md").read_text()
    return set(re.findall(r"`(GET|POST|PUT|DELETE) (/[^ `]*)`", page.split("### Requests")[1].split("\n## ")[0]))


def test_nothing_is_served_but_what_the_documentation_gives_a_reason_for() -> None:
    assert routes("tools.label.serving.http") == described()


def test_no_other_route_of_monai_label_answers(server: LabelServer) -> None:
    closed = routes("monailabel.app") - described()
    assert {("DELETE", "/model/{model}"), ("DELETE", "/datastore/image"), ("GET", "/logs/")} < closed
    for method, path in sorted(closed):
        answer = server.request(method, re.sub(r"\{.*?\}", "dca_synapse", path), b"{}" if method != "GET" else None)
        assert answer.status in (404, 405), (method, path, answer.status, answer.body)


def test_no_request_that_its_description_allows_or_forbids_makes_the_server_fail_or_hang(
    server: LabelServer, tmp_path: Path
) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    done = shell(str(Path(sys.executable).with_name("schemathesis")), "run", url, *SCHEMATHESIS, cwd=tmp_path)
    assert done.code == 0, f"{done.out[-6000:]}\n{done.error}\n{server.log.read_text()[-4000:]}"
    operations = [route for route in described() if not route[1].startswith(("/auth", "/ohif", "/proxy", "/openapi"))]
    assert f"{len(operations)} selected / {len(operations)} total" in done.out


@pytest.mark.parametrize(
    "path",
    ["/train/dca_synapse", "/train/", "/activelearning/first", "/activelearning/disagreement", "/scoring/disagreement"],
)
def test_body_that_is_no_plain_json_object_is_refused(server: LabelServer, path: str) -> None:
    deep = b'{"client_id": ' + b"[" * 500 + b"]" * 500 + b"}"
    numbers = [
        b'{"client_id": NaN}',
        b'{"client_id": 1e999}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
    ]
    for body in (b"{bad", b"[1]", b"3", b'{"a": "\\ud800"}', b"\xff\xfe{", b"[" * 60_000, deep, *numbers):
        answer = server.request("POST", path, body, content_type="application/json")
        assert answer.status in (400, 422), (body[:40], answer.status, answer.body)
    large = server.request("POST", path, b'{"a": "' + b"x" * 70_000 + b'"}', content_type="application/json")
    assert large.status == 413


@pytest.mark.parametrize("path", ["/activelearning/first", "/activelearning/random"])
def test_next_study_is_asked_for_again_and_again_with_anything(server: LabelServer, path: str) -> None:
    for _ in range(25):  # within a second or two: MONAI Label's own random choice has no study left then
        params = {"strategy": {}, "client_id": {"a": 1}, "labels": [[]], "label_tag": 3}
        assert server.post(path, params).json()["id"]


@pytest.mark.parametrize(
    "text",
    [
        "{bad",
        "[1]",
        "null",
        '{"overlap": NaN}',
        '{"overlap": 0.99}',
        '{"result_dtype": []}',
        '{"result_dtype": "int8"}',
        '{"model_filename": {}}',
        '{"device": ["nope"]}',
        '{"label_info": [[]]}',
        '{"logging": 3}',
        '{"label_tag": "final", "save_label": true}',
        "[" * 60_000,
        '{"x": "' + "x" * 70_000 + '"}',
    ],
)
def test_wrong_parameter_of_an_inference_is_told(server: LabelServer, text: str) -> None:
    answer = server.form("POST", INFER, {"params": text})
    assert answer.status == 400, answer.body


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint32", "float64"])
def test_every_kind_of_result_that_is_offered_can_be_written(server: LabelServer, ending: str, dtype: str) -> None:
    params = json.dumps({"result_extension": ending, "result_dtype": dtype})
    assert server.form("POST", INFER.replace("json", "image"), {"params": params}).status == 200


@pytest.mark.parametrize("kind", ["damaged", "empty", "2D", "4D", "no extent", "enormous", "NaN", "other ending"])
def test_file_that_is_no_volume_is_refused_as_image_study_and_label(
    server: LabelServer, kind: str, tmp_path: Path
) -> None:
    shape = {"2D": (4, 4), "4D": (4, 4, 4, 3)}.get(kind, (8, 8, 8))
    path = tmp_path / ("image.txt" if kind == "other ending" else "image.nii")
    values = np.full(shape, np.nan if kind == "NaN" else -500, np.float32)
    content = bytearray(nib.Nifti1Image(values, np.eye(4)).to_bytes())
    if kind in ("no extent", "enormous"):  # nibabel would not write it
        content[280:328] = (np.eye(3, 4, dtype="<f4") * (0 if kind == "no extent" else 1e4)).tobytes()
        content[80:92] = np.full(3, 1e4, "<f4").tobytes()
        content[252:256] = b"\0\0\1\0"
    path.write_bytes({"damaged": b"abc", "empty": b""}.get(kind, bytes(content)))
    forms = {("POST", "/infer/dca_synapse?output=json"): "file", ("PUT", LABEL): "label"}
    if kind not in ("no extent", "enormous"):
        forms["PUT", f"/datastore/?image={kind.replace(' ', '')}"] = "file"
    for (method, target), field in forms.items():
        answer = server.form(method, target, {field: path})
        assert answer.status == (400 if kind == "other ending" else 422), (target, answer.status, answer.body)


@pytest.mark.parametrize(
    "name", ["..", "../../x.nii", "C:\\Users\\x.nii", "x" * 300 + ".nii", "nul\0.nii", "ü;.nii", "meta.info"]
)
def test_odd_name_of_a_file_leads_nowhere(server: LabelServer, name: str) -> None:
    around = set(server.log.parent.iterdir())
    for method, target, field in (
        ("PUT", "/session/", "files"),
        ("PUT", "/datastore/", "file"),
        ("PUT", LABEL, "label"),
    ):
        head = f'--mark\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        answer = server.request(method, target, head.encode() + b"abc\r\n--mark--\r\n", content_type=FORM)
        assert answer.status < 500, (target, answer.body)
    assert set(server.log.parent.iterdir()) == around


@pytest.mark.parametrize("target", ["/session/", "/datastore/", LABEL, "/infer/dca_synapse"])
def test_form_that_is_none_is_refused(server: LabelServer, target: str) -> None:
    method = "POST" if target.startswith("/infer/") else "PUT"
    long = b'--mark\r\nContent-Disposition: form-data; name="params"\r\n\r\n' + b"x" * 2_000_000 + b"\r\n--mark--"
    for kind, body in ((FORM, b"x"), (FORM, b"--mark\r\n"), ("multipart/form-data", b"x"), (FORM, long),
        ("application/x-www-form-urlencoded", b"params=%ff&file=3&files=4&label=3")):  # fmt: skip
        answer = server.request(method, target, body, content_type=kind)
        assert 400 <= answer.status < 500, (kind, body[:20], answer.status, answer.body)


@pytest.mark.parametrize(
    "path",
    [
        *("/datastore/image?image=", "/datastore/image/info?image=", "/datastore/label?tag=final&label="),
        *("/session/", "/ohif/", "/proxy/dicom/wado/", "/proxy/dicom/qido/studies/"),
    ],
)
def test_odd_id_is_answered_and_shows_no_other_file(server: LabelServer, path: str) -> None:
    for name in ("nope", "..", "%2e%2e", "%2e%2e/%2e%2e/info.py", "%00", "%ff", "x" * 3000, "%0a", "~"):
        answer = server.get(path + name)
        assert answer.status in ((200,) if path == "/ohif/" else (400, 404, 422)), (name, answer.status, answer.body)
        assert b"import " not in answer.body
