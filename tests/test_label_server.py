"""The real server of MONAI Label, through HTTP alone as a viewer uses it; run by `make label-test`."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundle_commands import INFER, SYNAPSE
from tests.bundle_runner import BundleRunner
from tests.label_server import LabelServer, copy_studies, tiny_bundle

pytestmark = pytest.mark.label_server

ORGANS = json.loads((SYNAPSE / "configs" / "data_set.json").read_text())["labels"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CT bundle with a network of the least size, untrained."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "dca_synapse")


@pytest.fixture(scope="module")
def server(
    bundle: Path, synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    """A server with a model, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("server")
    studies = copy_studies(abdomen_phantom, folder / "studies")
    with LabelServer(bundle, studies, folder / "work", "--model", str(synapse_run[0] / "models/model.pt")) as running:
        yield running


def own_inference(runner: BundleRunner, bundle: Path, image: Path, output: Path) -> NDArray[np.uint8]:
    """What the bundle itself makes of an image."""
    runner.run([*INFER, "--dataset_dir", str(image), "--output_dir", str(output)], bundle).check()
    return np.asarray(nib.nifti1.load(output / f"{image.name.split('.')[0]}_seg.nii.gz").dataobj).astype(np.uint8)


def images(server: LabelServer) -> list[Path]:
    return sorted((server.log.parent / "studies").glob("*.nii.gz"))


def test_info_shows_the_organs(server: LabelServer) -> None:
    info = server.get("/info/").json()
    assert info["labels"] == list(ORGANS.values())
    assert info["models"]["dca_synapse"]["labels"] == {name: int(c) for c, name in ORGANS.items()}
    assert info["datastore"]["total"] == 5


def test_inference_equals_the_bundles_own_voxel_for_voxel(
    server: LabelServer, runner: BundleRunner, tmp_path: Path
) -> None:
    served = server.log.parent / "work" / "model" / "dca_synapse"
    for image in images(server)[:2]:
        expected = own_inference(runner, served, image, tmp_path)
        assert len(np.unique(expected)) > 2
        np.testing.assert_array_equal(server.infer(image.name.split(".")[0], tmp_path), expected)


def test_option_of_the_model_reaches_its_inferer(server: LabelServer, tmp_path: Path) -> None:
    study = images(server)[0].name.split(".")[0]
    assert (server.infer(study, tmp_path) != server.infer(study, tmp_path, overlap=0.8)).any()


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/infer/dca_synapse?image=nope", {}, 404),
        ("POST", "/infer/nope?image=abdomen001", {}, 404),
        ("POST", "/infer/dca_synapse?image=..%2Fabdomen001", {}, 422),
        ("POST", "/infer/dca_synapse", {}, 400),
        ("POST", "/infer/dca_synapse?image=abdomen001", {"params": "{bad"}, 400),
        ("POST", "/infer/dca_synapse?image=abdomen001", {"params": "[1]"}, 400),
        ("POST", "/infer/dca_synapse?image=abdomen001", {"params": '{"overlap": 7}'}, 400),
        ("POST", "/infer/dca_synapse?image=abdomen001", {"params": '{"overlap": "$1"}'}, 400),
        ("POST", "/infer/dca_synapse?image=abdomen001&output=dicom_seg", {}, 400),
        ("POST", "/activelearning/nope", {}, 404),
        ("POST", "/scoring/nope", {}, 404),
        ("POST", "/train/nope", {}, 404),
        ("POST", "/train/dca_synapse", {}, 400),
        ("GET", "/datastore/image?image=nope", {}, 404),
    ],
)
def test_bad_request_is_answered_and_the_server_lives_on(
    server: LabelServer, method: str, path: str, fields: dict[str, str | Path], status: int
) -> None:
    answer = (
        server.form(method, path, fields) if fields else server.request(method, path, b"" if method == "POST" else None)
    )
    assert answer.status == status, answer.body
    assert server.get("/info/").status == 200


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_uploaded_archive_writes_nothing_outside_its_session(server: LabelServer, tmp_path: Path, way: str) -> None:
    above = os.path.join("..", os.path.relpath(tmp_path, tempfile.gettempdir()), "escaped")
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    names = {"above": [above], "absolute": [str(tmp_path / "escaped")], "link": [link, "link/escaped"]}[way]
    answer = server.form("PUT", "/session/?uncompress=true", {"files": tar(tmp_path / "bad.tar.gz", ["a.dcm", *names])})
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"]
    assert (answer.status, b"bad.tar.gz: expected" in answer.body) == (400, True), answer.body


def test_uploaded_archive_is_a_session(server: LabelServer, tmp_path: Path) -> None:
    sent = {"files": tar(tmp_path / "good.tar", ["a.dcm", "folder/b.dcm"])}
    session = server.form("PUT", "/session/?uncompress=true", sent).json()
    folder = Path(session["session_info"]["image"])
    assert sorted(path.name for path in folder.rglob("*.dcm")) == ["a.dcm", "b.dcm"]
    server.request("DELETE", f"/session/{session['session_id']}").json()
    assert not folder.exists()
    assert server.form("PUT", "/session/?uncompress=true", {"files": images(server)[0]}).status == 400


def tar(path: Path, members: list[str | tarfile.TarInfo]) -> Path:
    """An archive of empty files and of what has been described."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for member in members:
            archive.addfile(tarfile.TarInfo(member) if isinstance(member, str) else member, io.BytesIO())
    return path


def test_image_that_the_bundle_would_refuse_is_refused(server: LabelServer, tmp_path: Path) -> None:
    image = nib.nifti1.load(images(server)[0])
    bright = tmp_path / "bright.nii.gz"
    nib.save(nib.Nifti1Image(np.abs(np.asarray(image.dataobj)), image.affine), bright)
    answer = server.form("POST", "/infer/dca_synapse", {"params": "{}", "file": bright})
    assert answer.status == 422
    assert b"Hounsfield" in answer.body


def test_study_is_added_under_a_new_name_only(server: LabelServer) -> None:
    first, second = images(server)[:2]
    before = first.read_bytes()
    answer = server.form("PUT", f"/datastore/?image={first.name.split('.')[0]}", {"file": second})
    assert (answer.status, b"is a study already" in answer.body) == (409, True), answer.body
    assert first.read_bytes() == before


def test_pages_of_other_origins_are_kept_out(server: LabelServer) -> None:
    assert server.get("/info/", origin="http://elsewhere.example").status == 403
    assert server.get("/info/", host="elsewhere.example").status == 400
    assert server.get("/info/", origin=f"http://127.0.0.1:{server.port}").status == 200


def test_training_uses_both_streams_and_its_model_is_served(
    bundle: Path, abdomen_phantom: Path, runner: BundleRunner, tmp_path: Path
) -> None:
    work, labels = tmp_path / "work", abdomen_phantom / "labels"
    studies = copy_studies(abdomen_phantom, tmp_path / "studies")
    with LabelServer(bundle, studies, work) as server:
        info = server.get("/info/").json()
        assert (info["models"], info["labels"]) == ({}, list(ORGANS.values()))
        assert server.form("POST", "/infer/dca_synapse?image=abdomen003", {"params": "{}"}).status == 409
        for study in ("abdomen001", "abdomen002"):
            path = f"/datastore/label?image={study}&tag=final"
            server.form("PUT", path, {"label": labels / f"{study}.nii.gz"}).json()
        kept = (studies / "labels" / "final" / "abdomen001.nii.gz").read_bytes()
        wrong = server.form(
            "PUT", "/datastore/label?image=abdomen001&tag=final", {"label": studies / "abdomen001.nii.gz"}
        )
        assert wrong.status == 422
        assert (studies / "labels" / "final" / "abdomen001.nii.gz").read_bytes() == kept

        first = train(server, work)
        assert first == {"labelled": 1, "validation": 1, "unlabelled": 3}
        assert float(last_row(work)["loss_unlabelled"]) > 0
        served = work / "model" / "dca_synapse"
        (shown,) = server.get("/info/").json()["train_stats"].values()
        assert 1 <= shown["epoch"] == shown["total_epochs"]  # a viewer divides them
        image = studies / "abdomen003.nii.gz"
        expected = own_inference(runner, served, image, tmp_path)
        np.testing.assert_array_equal(server.infer("abdomen003", tmp_path), expected)

        weights = (served / "models" / "model.pt").read_bytes()
        path = "/datastore/label?image=abdomen004&tag=final"
        server.form("PUT", path, {"label": labels / "abdomen004.nii.gz"}).json()
        assert train(server, work) == {"labelled": 2, "validation": 1, "unlabelled": 2}
        assert (served / "models" / "model.pt").read_bytes() != weights
        assert f"loaded {served / 'models' / 'model.pt'}" in server.log.read_text()
        expected = own_inference(runner, served, image, tmp_path)
        np.testing.assert_array_equal(server.infer("abdomen003", tmp_path), expected)


def train(server: LabelServer, work: Path) -> dict[str, int]:
    """Train, and count the studies of each role."""
    server.post("/train/dca_synapse", {"max_epochs": 2}).json()
    state = server.wait_for("train")
    assert state["status"] == "DONE", server.log.read_text()[-4000:]
    split = json.loads((work / "training" / "split.json").read_text())
    labelled = next(iter(split["labelled"].values()))
    return {
        "labelled": len(labelled),
        "validation": len(split["validation"]),
        "unlabelled": len(set(split["train"]) - set(labelled)),
    }


def last_row(work: Path) -> dict[str, str]:
    with (work / "training" / "run" / "curves.csv").open(newline="") as file:
        return list(csv.DictReader(file))[-1]
