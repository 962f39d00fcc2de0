"""`python -m tools label`: MONAI Label's server for a bundle, for this machine only, or for others with a token."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from pathlib import Path

from scripts.errors import UserError

from ..common.bundles import expect_bundle
from ..common.paths import BUNDLES, ROOT
from ..segment.cases import modality_of
from .serving.access import OWN_NAMES, TOKEN, TOKEN_VARIABLE, is_loopback
from .workspace import make_workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--bundle", required=True, help="bundle to serve, such as dca_synapse")
    parser.add_argument(
        "--studies", required=True, help="folder of the images (NIfTI or NRRD), or the URL of a DICOMweb server"
    )
    parser.add_argument("--model", type=Path, help="weights to serve (default: what was trained here, or the bundle's)")
    parser.add_argument("--preset", help="preset to train with, where there are no weights (default: the bundle's)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument(
        "--host", default=OWN_NAMES[0], help="address to listen on; with a token it may be seen by others (%(default)s)"
    )
    parser.add_argument(
        "--token",
        help=f"that every request has to bring (default: ${TOKEN_VARIABLE}, which no list of processes shows)",
    )
    parser.add_argument("--output", type=Path, help="folder that the server works in (default: runs/label_BUNDLE)")
    parser.add_argument(
        "--environment", type=Path, default=ROOT / ".venv-label", help="what `make label` made (default: .venv-label)"
    )


def run(args: argparse.Namespace) -> int:
    """Prepare the server's folder and become the server; Ctrl-C ends it.

    Raises:
        UserError: no environment, no studies, an address that others reach without a token or that cannot be had, or a
            folder or weights that cannot be used.
    """
    token = args.token or os.environ.get(TOKEN_VARIABLE, "")
    _check_access(args.host, token)
    remote = args.studies.startswith(("http://", "https://"))
    python = args.environment.absolute() / "bin" / "python"
    if not python.is_file():
        raise UserError(f"{args.environment}: expected MONAI Label's environment, found none; run `make label`")
    if not remote and not Path(args.studies).is_dir():
        raise UserError(f"{args.studies}: expected a folder of studies or a DICOMweb URL, found no such folder")
    _check_port(args.host, args.port)
    folder = (args.output or ROOT / "runs" / f"label_{Path(args.bundle).name}").absolute()
    bundle = make_workspace(folder, expect_bundle(BUNDLES, args.bundle, "metadata.json"), args.model, args.preset)
    if not (bundle / "models" / "model.pt").is_file():
        print(f"note: {bundle.name} has no model.pt, so there is nothing to infer with before the first training")
    print(f"MONAI Label for {bundle.name}: http://{args.host}:{args.port} (Ctrl-C ends it)", flush=True)
    studies = args.studies if remote else os.path.abspath(args.studies)
    command = [str(python), "-W", "ignore", "-m", "monailabel.main", "start_server", "--app", str(folder)]
    command += ["--studies", studies, "--host", args.host, "--port", str(args.port)]
    command += [
        "--uvicorn_app",
        "tools.label.serving.http:app",
        "--conf",
        "models",
        bundle.name,
        "--conf",
        "host",
        args.host,
    ]
    sys.stdout.flush()
    os.chdir(folder)
    os.execve(command[0], command, environment(folder, bundle, python, args.host, token))


def environment(folder: Path, bundle: Path, python: Path, host: str, token: str) -> dict[str, str]:
    """The variables that the server and the processes it starts need, over those of this process."""
    own = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools" / "label" / "stubs")]),
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),  # dcmqi's programs
        "MONAI_LABEL_RELOAD_APP_LIB": "false",  # there is one bundle, so its classes can stay what they are
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "dicom"),
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": modality_of(bundle)}),
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "5",  # seconds, in which a stored series or SEG goes unseen
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "NO_PROXY": ",".join([*OWN_NAMES, host]),
        TOKEN_VARIABLE: token,
    }
    return os.environ | own


def _check_access(host: str, token: str) -> None:
    if token and not TOKEN.fullmatch(token):
        raise UserError(
            "--token: expected at least 16 letters, digits and -._~+/, found others or fewer; make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if not token and not is_loopback(host):
        raise UserError(
            f"--host: expected {OWN_NAMES[0]} where there is no token, found {host}, at which everybody on its network "
            f"could read and change the studies; set {TOKEN_VARIABLE}"
        )


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--host, --port: expected an address of this machine and a free port, found {host}:{port} taken or "
                f"not allowed ({error})"
            ) from None
