"""MONAI Label's web server with checks in front: a request that cannot be served is answered 4xx, and harms nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.endpoints.activelearning import sample
from monailabel.endpoints.batch_infer import run as run_batch
from monailabel.endpoints.infer import ResultType, run_inference
from monailabel.endpoints.session import create_session
from monailabel.endpoints.train import run_model
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from starlette.middleware.trustedhost import TrustedHostMiddleware

from .archives import check_archive
from .choosing import NAME
from .requests import SENT_ALONG, RequestError, check_name

# Before the app is made: left empty, web pages of any origin may read what a browser on this machine can reach. An
# environment variable will not do, since MONAI Label cannot start with it.
OWN_ORIGINS = [f"http://{host}:{settings.MONAI_LABEL_SERVER_PORT}" for host in ("127.0.0.1", "localhost")]
settings.MONAI_LABEL_CORS_ORIGINS = OWN_ORIGINS
from monailabel.app import app  # noqa: E402

NAMES = ("image", "label", "tag", "id", "session_id", "logfile")  # query parameters that become part of a path
TASKS = ("batch/infer", "activelearning", "scoring")
one_at_a_time = threading.Lock()
router = APIRouter()


def _answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"detail": message}, status)


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise RequestError(f"params: expected a JSON object, found text that does not parse ({error})") from None
    if not isinstance(content, dict):
        raise RequestError(f"params: expected a JSON object, found {text[:80]!r}")
    return content


@router.post("/infer/{model}")
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """As MONAI Label's own, but in a thread, so that the server answers meanwhile; one inference at a time."""
    chosen = {k: v for k, v in _object(params).items() if k not in ("model", "image", "label", "session")}
    if not (image or session_id or file):
        raise RequestError("image: expected the id of a study, found none")
    if output == ResultType.dicom_seg and not isinstance(app_instance().datastore(), DICOMWebDatastore):
        raise RequestError("output: expected image, json or all where the studies are files, found dicom_seg")
    if output == ResultType.dicom_seg:
        chosen["label_info"] = []  # MONAI Label insists on it, and dicom_seg knows better
    with one_at_a_time:
        return run_inference(background_tasks, model, image, session_id, json.dumps(chosen), file, label, output)


@router.post("/infer/wsi/{model}")
@router.post("/infer/wsi_v2/{model}")
def infer_slide(model: str) -> Any:
    """MONAI Label's own reads any file that its parameters name, and no bundle here is for whole-slide images."""
    raise RequestError(f"expected /infer/{model}, found a request for whole-slide images; none are served here", 404)


@router.post("/batch/infer/{model}")
def infer_many(
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
) -> Any:
    """As MONAI Label's own, but in a thread, and only of studies."""
    return run_batch(model, images, app_instance().check_batch(params or {"max_workers": 1}), run_sync)


@router.put("/session/")
def new_session(
    background_tasks: BackgroundTasks,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> Any:
    """As MONAI Label's own, but in a thread, and an archive is unpacked only if all of it stays in the session."""
    if uncompress and len(files) == 1:  # of several, MONAI Label unpacks none
        check_archive(files[0].filename or "", files[0].file)
    return create_session(background_tasks, uncompress, expiry, files)


@router.post("/train/{model}")
def train(model: str, params: dict[str, Any] | None = None, enqueue: bool = False) -> Any:
    """As MONAI Label's own, but what is wrong with a request is said at once; always in the background."""
    options = app_instance().check_training(model, params or {})
    return run_model(model, options, run_sync=False, enqueue=enqueue)


@router.post("/train")
@router.post("/train/")
def train_all(params: dict[str, Any] | None = None) -> Any:
    """As MONAI Label's own, with the options of each model under its name; all are checked before one is started."""
    named = {model: own for model, own in (params or {}).items() if model not in SENT_ALONG}
    models = dict.fromkeys(app_instance().names("train")) | named
    checked = {model: app_instance().check_training(model, own or {}) for model, own in models.items()}
    return {
        model: {"result": run_model(model, options, run_sync=False, enqueue=True), "detail": None}
        for model, options in checked.items()
    }


@router.post("/scoring/{method}")
def score(method: str, params: dict[str, Any] | None = None) -> Any:
    """As MONAI Label's own, but always in the background, and after a scoring that is running."""
    options = app_instance().check_scoring(params or {})
    return AsyncTask.run("scoring", request={"method": method}, params=options, enqueue=True)[0]


@router.post("/scoring/")
def score_all() -> Any:
    """The one scoring that there is."""
    return score(NAME)


@router.post("/activelearning/{strategy}")
def next_study(strategy: str, params: dict[str, Any] | None = None) -> Any:
    """As MONAI Label's own, but in a thread, and with its options checked."""
    return sample(strategy, app_instance().check_strategy(strategy, params or {}))


@app.middleware("http")
async def check_query(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse ids that could name a file elsewhere, tasks that there are not, and what pages of other origins send."""
    if request.headers.get("origin", OWN_ORIGINS[0]) not in OWN_ORIGINS:
        return _answer(403, "origin: expected this server's own pages")
    try:
        for name in NAMES:
            for value in request.query_params.getlist(name):
                if value:
                    check_name(name, value)
        for kind in TASKS if request.method == "POST" else ():
            task = request.url.path.removeprefix(f"/{kind}/")
            if task not in ("", request.url.path) and task not in (known := app_instance().names(kind)):
                raise RequestError(f"{kind}: expected one of {', '.join(known) or 'none'}, found {task!r}", 404)
    except RequestError as error:
        return _answer(error.status, str(error))
    return await call_next(request)


@app.exception_handler(RequestError)
async def bad_request(request: Request, error: RequestError) -> Response:
    """Say what is wrong with the request."""
    return _answer(error.status, str(error))


@app.exception_handler(ImageNotFoundException)
@app.exception_handler(LabelNotFoundException)
async def not_found(request: Request, error: Any) -> Response:
    """Say what is missing."""
    return _answer(404, str(error.msg))


@app.exception_handler(ValueError)
async def user_error(request: Request, error: ValueError) -> Response:
    """A `scripts.errors.UserError` is about the study; any other ValueError is the server's fault."""
    if type(error).__name__ == "UserError":
        return _answer(422, str(error))
    raise error


@app.exception_handler(json.JSONDecodeError)
async def no_json(request: Request, error: json.JSONDecodeError) -> Response:
    """Parameters of other requests that do not parse."""
    return _answer(400, f"params: expected JSON, found text that does not parse ({error})")


app.router.routes[:0] = router.routes  # before MONAI Label's own of the same path
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
