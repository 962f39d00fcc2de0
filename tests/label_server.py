"""Starts MONAI Label's real server for the tests that `make label-test` runs, talks to it, and always ends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 300  # seconds; a start takes 10 on an idle machine, a tiny training 30
TINY = {"spacing": [8, 8, 8], "patch_size": [16, 16, 16], "width": 4}
TINY_TRAINING = {"steps": 4, "val_steps": 2}


def tiny_bundle(folder: Path) -> Path:
    """The CT bundle with a network of the least size, untrained."""
    # Here, since `dicomweb_story.py` imports this module outside of pytest, which knows the place of `scripts`.
    from tests.bundle_commands import SYNAPSE, edit_json
    from tools.label.workspace import copy_bundle

    copy_bundle(SYNAPSE, folder)
    for name, more in (("train", TINY_TRAINING), ("inference", {})):
        edit_json(folder / "configs" / f"{name}.json", lambda c, more=more: c["presets"]["cpu"].update(TINY, **more))
    return folder


def copy_studies(phantom: Path, folder: Path) -> Path:
    """The images of a phantom, without its labels."""
    shutil.copytree(phantom / "images", folder)
    return folder


class Answer:
    """Status and body of an answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body

    def json(self) -> Any:
        """The body, of an answer that has to be a success."""
        assert self.status == 200, f"{self.status}: {self.body[:500]!r}"
        return json.loads(self.body)


class LabelServer:
    """A server in a process of its own, on a free port of this machine; a context manager."""

    def __init__(self, bundle: Path, studies: Path | str, output: Path, *options: str, token: str = "") -> None:
        self.own = {"authorization": f"Bearer {token}"} if token else {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = output.with_name(output.name + ".log")
        command = [sys.executable, "-m", "tools", "label", "--bundle", str(bundle), "--studies", str(studies)]
        command += ["--output", str(output), "--port", str(self.port), *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1", "DCA_LABEL_TOKEN": token},
                start_new_session=True,  # a group of its own, to end what it started as well
            )

    def __enter__(self) -> LabelServer:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/info/").json()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
            else:
                return self
        self.close()
        raise AssertionError(f"no server\n{self.log.read_text()[-4000:]}")

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server, and a training that it may be running."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; an error status is an answer like any other."""
        named = {name.replace("_", "-"): value for name, value in {**self.own, **headers}.items() if value}
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, named, method=method), timeout=DEADLINE
            ) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())

    def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return self.request("GET", path, **headers)

    def post(self, path: str, params: Any = None, **headers: str) -> Answer:
        """POST with a JSON body."""
        return self.request("POST", path, json.dumps(params or {}).encode(), content_type="application/json", **headers)

    def form(self, method: str, path: str, fields: dict[str, str | Path]) -> Answer:
        """A form with texts and files."""
        mark = uuid.uuid4().hex
        body = b""
        for name, value in fields.items():
            head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"'
            if isinstance(value, Path):
                head += f'; filename="{value.name}"\r\nContent-Type: application/octet-stream'
            content = value.read_bytes() if isinstance(value, Path) else value.encode()
            body += head.encode() + b"\r\n\r\n" + content + b"\r\n"
        body += f"--{mark}--\r\n".encode()
        return self.request(method, path, body, content_type=f"multipart/form-data; boundary={mark}")

    def infer(self, study: str, folder: Path, **params: Any) -> NDArray[np.uint8]:
        """The label map of a study."""
        import nibabel as nib

        wanted = {"result_extension": ".nii.gz", "result_dtype": "uint8"} | params
        path = f"/infer/dca_synapse?image={study}&output=image"
        answer = self.form("POST", path, {"params": json.dumps(wanted)})
        assert answer.status == 200, f"{answer.body[:500]!r}\n{self.log.read_text()[-4000:]}"
        file = folder / f"{study}_{uuid.uuid4().hex[:8]}.nii.gz"
        file.write_bytes(answer.body)
        return np.asarray(nib.nifti1.load(file).dataobj).astype(np.uint8)

    def wait_for(self, task: str, done: Sequence[str] = ("DONE", "ERROR", "STOPPED")) -> dict[str, Any]:
        """Wait until the last task of a kind ("train", "scoring") has ended, and return what the server says of it."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            state: dict[str, Any] = self.get(f"/{task}/").json()
            if state["status"] in done:
                return state
            time.sleep(0.5)
        raise AssertionError(f"{task} did not end\n{self.log.read_text()[-4000:]}")
