"""The requests that the server takes, each checked: those of 3D Slicer, OHIF, MONAI Label's client, and of scoring.

None of MONAI Label's own routes is served, only functions behind some of them, in threads, so that the server answers
meanwhile. docs/how-to/label.md lists them, and why each is there.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import monailabel.endpoints.datastore as studies
import psutil
from fastapi import APIRouter, BackgroundTasks, File, Form, UploadFile
from fastapi.responses import FileResponse
from monailabel import endpoints
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.endpoints.activelearning import sample
from monailabel.endpoints.infer import ResultType, run_inference
from monailabel.endpoints.session import create_session, get_session, remove_session
from monailabel.endpoints.train import run_model
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import tasks
from pydantic import AfterValidator

from .archives import check_archive
from .requests import (
    SENT_ALONG,
    RequestError,
    check_ending,
    check_json,
    check_label_info,
    check_name,
    file_name,
    read_object,
    sent_along,
)

Name = Annotated[str, AfterValidator(lambda value: check_name("name", value))]
MaybeName = Annotated[str, AfterValidator(lambda value: value and check_name("name", value))]
Options = Annotated[dict[str, Any] | None, AfterValidator(check_json)]
Params = Annotated[str, Form()]  # of which `read_object` makes JSON
MOST_UPLOAD = 2**34  # bytes, which go to the disk
OHIF = Path(endpoints.__file__).with_name("static") / "ohif"
one_at_a_time = threading.Lock()
router = APIRouter()


@router.get("/info/")
def info() -> Any:
    """What the app offers."""
    return app_instance().info()


@router.post("/infer/{model}", max_body_size=MOST_UPLOAD)
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: MaybeName = "",
    session_id: MaybeName = "",
    params: Params = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Of a study, a session or a file; one inference at a time."""
    chosen = {k: v for k, v in read_object(params).items() if k not in ("model", "image", "label", "session")}
    if not (image or session_id or file):
        raise RequestError("image: expected the id of a study, found none")
    if session_id:
        get_session(session_id)  # or 404
    if file:
        file.filename = "file" + check_ending("file", file_name(file.filename))
    if output == ResultType.dicom_seg:
        if session_id or file or not _is_dicom():
            raise RequestError("output: expected image, json or all but for a study of a DICOM server, found dicom_seg")
        chosen["label_info"] = []  # MONAI Label insists on it, and dicom_seg knows better
    with one_at_a_time:
        return run_inference(background_tasks, model, image, session_id, json.dumps(chosen), file, None, output)


@router.put("/session/", max_body_size=MOST_UPLOAD)
def new_session(
    background_tasks: BackgroundTasks,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> Any:
    """Images to infer on that become no studies; an archive is unpacked only if all of it stays in the session."""
    for file in files:
        file.filename = file_name(file.filename)
    if len({file.filename for file in files}) < len(files):
        raise RequestError("files: expected files of different names, found one twice")
    if uncompress and len(files) == 1:  # of several, MONAI Label unpacks none
        check_archive(files[0].filename or "", files[0].file)
    return create_session(background_tasks, uncompress, expiry, files)


@router.get("/session/{session_id}")
def session(session_id: Name, update_ts: bool = False) -> Any:
    """What there is of a session."""
    return get_session(session_id, update_ts)


@router.delete("/session/{session_id}")
def end_session(session_id: Name) -> Any:
    """Remove a session and its images."""
    return remove_session(session_id)


@router.get("/datastore/")
def datastore(output: Literal["stats", "all"] = "stats") -> Any:
    """How many studies and labels there are, or what is known of each."""
    return studies.datastore(studies.ResultType(output))


@router.put("/datastore/", max_body_size=MOST_UPLOAD)
def add_study(
    background_tasks: BackgroundTasks,
    file: Annotated[UploadFile, File()],
    image: MaybeName = "",
    params: Params = "{}",
) -> Any:
    """Take an image as a new study; one that there is is never replaced."""
    if _is_dicom():
        raise RequestError("image: expected studies on the DICOM server only, found an upload; store it there")
    name = file_name(file.filename)
    ending = check_ending("file", name)
    study = check_name("image", image or name.removesuffix(ending))
    if study in app_instance().datastore().list_images():
        raise RequestError(f"image: expected a new id, found {study!r}, which is a study already", 409)
    file.filename = "file" + ending
    return studies.add_image(background_tasks, study, json.dumps(sent_along(read_object(params))), file)


@router.get("/datastore/image")
def image(image: Name) -> Any:
    """The image of a study."""
    app_instance().check_study(image)
    return studies.download_image(image)


@router.get("/datastore/image/info")
def image_info(image: Name) -> Any:
    """What is known of a study, such as its scores."""
    app_instance().check_study(image)
    return studies.get_image_info(image)


@router.put("/datastore/label", max_body_size=MOST_UPLOAD)
def save_label(
    background_tasks: BackgroundTasks,
    image: Name,
    label: Annotated[UploadFile, File()],
    tag: MaybeName = "",
    params: Params = "{}",
) -> Any:
    """Keep a label of a study, in the place of an earlier one with the same tag (default: final)."""
    app_instance().check_study(image)
    label.filename = "label" + check_ending("label", file_name(label.filename))
    about = json.dumps(check_label_info(read_object(params)))
    return studies.save_label(background_tasks, image, about, tag, label)


@router.get("/datastore/label")
def label(label: Name, tag: Name) -> Any:
    """A label of a study."""
    store = app_instance().datastore()
    path = LocalDatastore.get_label_uri(store, label, tag)  # MONAI Label takes the study's id for that of a SEG
    if not os.path.isfile(path):
        raise RequestError(f"label: expected a study with a label {tag!r}, found none for {label!r}", 404)
    return FileResponse(path, filename=os.path.basename(path))


@router.get("/train/")
def training(check_if_running: bool = False) -> Any:
    """How the last training is doing."""
    return _status("train", check_if_running)


@router.post("/train/{model}")
def train(model: str, params: Options = None, enqueue: bool = False) -> Any:
    """Train in the background."""
    options = app_instance().check_training(model, params or {})
    return run_model(model, options, run_sync=False, enqueue=enqueue)


@router.post("/train")
@router.post("/train/")
def train_all(params: Options = None) -> Any:
    """Train, with the options of each model under its name; all are checked before one is started."""
    named = {model: own for model, own in (params or {}).items() if model not in SENT_ALONG}
    models = dict.fromkeys(app_instance().trainers()) | named
    checked = {model: app_instance().check_training(model, own or {}) for model, own in models.items()}
    return {
        model: {"result": run_model(model, options, run_sync=False, enqueue=True), "detail": None}
        for model, options in checked.items()
    }


@router.delete("/train/")
def stop_training() -> Any:
    """Stop the training that is running."""
    try:
        return AsyncTask.stop("train")
    except psutil.NoSuchProcess:  # it has just ended
        return None


@router.post("/activelearning/{strategy}")
def next_study(strategy: str, params: Options = None) -> Any:
    """The next study to label."""
    return sample(strategy, app_instance().check_strategy(strategy, params or {}))


@router.get("/scoring/")
def scoring(check_if_running: bool = False) -> Any:
    """How the last scoring is doing."""
    return _status("scoring", check_if_running)


@router.post("/scoring/{method}")
def score(method: str, params: Options = None) -> Any:
    """Score in the background, after a scoring that is running; one that waits for it is enough."""
    options = app_instance().check_scoring(method, params or {})
    waiting = [task for task in tasks("scoring") if task["status"] == "SUBMITTED"]
    return waiting[0] if waiting else AsyncTask.run("scoring", {"method": method}, options, enqueue=True)[0]


@router.get("/ohif/{path:path}", include_in_schema=False)
def ohif(path: str) -> Any:
    """OHIF's files; its pages have paths of their own, and are all the same file."""
    file = os.path.abspath(OHIF / path)
    inside = Path(file).is_relative_to(OHIF) and os.path.isfile(file)
    return FileResponse(file if inside else OHIF / "index.html")


def _is_dicom() -> bool:
    return isinstance(app_instance().datastore(), DICOMWebDatastore)


def _status(kind: str, check_if_running: bool) -> Any:
    state, why = AsyncTask.status(kind, check_if_running=check_if_running)
    if state is None:
        raise RequestError(why, 404)
    return state
