"""The web server, with checks in front: a request that cannot be served is answered 4xx, and harms nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import requests
from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from monailabel.config import settings
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from monailabel.interfaces.utils.app import app_instance
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from . import access, proxy, routes
from .requests import MOST_TEXT, RequestError

HOST = settings.MONAI_LABEL_APP_CONF.get("host", access.OWN_NAMES[0])
ORIGINS = access.origins(HOST, settings.MONAI_LABEL_SERVER_PORT)
TOKEN = os.environ.get(access.TOKEN_VARIABLE, "")
LOGIN = ("/auth/", "/auth/token")  # what a client asks before it has a token


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """As MONAI Label's own: makes the app before the first request, and has it score and clean up."""
    app_instance().server_mode(True)
    app_instance().on_init_complete()
    yield


# Without the pages of the documentation, which load foreign scripts. Routes that take more than text say so.
app = FastAPI(title="MONAI Label", docs_url=None, redoc_url=None, lifespan=lifespan, max_body_size=MOST_TEXT)
app.include_router(routes.router)
app.include_router(proxy.router)


@app.get("/auth/", include_in_schema=False)
def login() -> dict[str, Any]:
    """Whether a client has to ask for a name and a password."""
    return {"enabled": bool(TOKEN), "client_id": "", "realm": ""}


@app.post("/auth/token", include_in_schema=False)
def token(password: Annotated[str, Form()]) -> dict[str, str]:
    """The token for itself as password, as 3D Slicer asks for it, under any name."""
    if not TOKEN or not access.is_token(password, TOKEN):
        raise RequestError("password: expected the token of this server, found another", 401)
    return {"access_token": TOKEN, "token_type": "Bearer"}


@app.get("/auth/token/valid", include_in_schema=False)
def valid() -> dict[str, str]:
    """Reached only with the token."""
    return {"username": "token"}


def _answer(status: int, detail: Any) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


@app.middleware("http")
async def check_access(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what pages of other origins send, and what comes without the token."""
    sent = request.headers
    if not access.is_own_page(sent.get("origin"), sent.get("host"), ORIGINS):
        return _answer(403, "origin: expected this server's own pages")
    if TOKEN and request.url.path not in LOGIN and not access.brings_token(sent.get("authorization"), TOKEN):
        answer = _answer(401, "Authorization: expected Bearer and the token of this server")
        for challenge in access.CHALLENGES:
            answer.headers.append("WWW-Authenticate", challenge)
        return answer
    return await call_next(request)


@app.exception_handler(RequestValidationError)
async def invalid(request: Request, error: RequestValidationError) -> Response:
    """As FastAPI's own, without what was sent: not all of it can be sent back."""
    return _answer(422, [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()])


@app.exception_handler(RequestError)
async def bad_request(request: Request, error: RequestError) -> Response:
    """Say what is wrong with the request."""
    return _answer(error.status, str(error))


@app.exception_handler(ImageNotFoundException)
@app.exception_handler(LabelNotFoundException)
async def not_found(request: Request, error: Any) -> Response:
    """Say what is missing."""
    return _answer(404, str(error.msg))


@app.exception_handler(requests.RequestException)
async def no_dicom(request: Request, error: requests.RequestException) -> Response:
    """Say whose fault it is."""
    return _answer(502, f"expected an answer of the DICOM server, found {type(error).__name__}")


@app.exception_handler(ValueError)
async def user_error(request: Request, error: ValueError) -> Response:
    """A `scripts.errors.UserError` is about the study; any other ValueError is the server's fault."""
    if type(error).__name__ == "UserError":
        return _answer(422, str(error))
    raise error


app.add_middleware(CORSMiddleware, allow_origins=ORIGINS, allow_methods=["*"], allow_headers=["*"])
app.add_middleware(TrustedHostMiddleware, allowed_hosts=access.names(HOST), www_redirect=False)
