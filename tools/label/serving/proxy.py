"""What OHIF asks the DICOM server for and stores there, passed on: DICOMweb, and nothing else of that server."""

from __future__ import annotations

from urllib.parse import quote

import requests
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from monailabel.config import settings

from .requests import RequestError

MOST_STORED = 2**30  # bytes, which go to the memory
SECONDS = (10, 120)  # to connect, and between two parts of an answer
router = APIRouter(prefix="/proxy/dicom", include_in_schema=False)


@router.get("/wado/{path:path}")
def retrieve(path: str) -> Response:
    """Images and what is known of them."""
    return _forward("GET", settings.MONAI_LABEL_WADO_PREFIX, path)


@router.get("/qido/{path:path}")
def search(path: str) -> Response:
    """What there is; some versions of OHIF search for metadata, which are to be retrieved."""
    return retrieve(path) if path.endswith("metadata") else _forward("GET", settings.MONAI_LABEL_QIDO_PREFIX, path)


@router.post("/wado/studies", max_body_size=MOST_STORED)
@router.post("/wado/studies/{study}", max_body_size=MOST_STORED)
async def store(request: Request, study: str = "") -> Response:
    """Store a segmentation that was drawn in OHIF."""
    content, path = await request.body(), f"studies/{study}".rstrip("/")
    kind = request.headers.get("content-type", "")
    return await run_in_threadpool(_forward, "POST", settings.MONAI_LABEL_STOW_PREFIX, path, content, kind)


def _forward(method: str, prefix: str | None, path: str, content: bytes | None = None, kind: str = "") -> Response:
    server = settings.MONAI_LABEL_STUDIES
    if not server.startswith(("http://", "https://")):
        raise RequestError("expected a DICOM server, found a folder of studies; name one with --studies", 404)
    parts = path.split("/")
    if parts[0] not in ("studies", "series", "instances") or {"", ".", ".."} & set(parts):
        raise RequestError(f"path: expected one of DICOMweb, such as studies/UID, found {path!r}")
    user = (settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD)
    answer = requests.request(
        method,
        "/".join([server.rstrip("/"), *([prefix] if prefix else []), quote(path)]),
        data=content,
        headers={"Content-Type": kind, "Accept": "application/dicom+json"} if content else {},
        auth=user if all(user) else None,
        timeout=SECONDS,
        allow_redirects=False,
    )
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("Content-Type"))
