"""A real Orthanc with its DICOMweb plugin, in a network namespace that has the loopback alone.

Debian's Orthanc listens on all addresses whatever its settings say. So all that talks to it, MONAI Label's server and
the test's requests included, runs inside the namespace: `in_namespace` starts a script there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
MISSING = None if PROGRAM and PLUGIN.exists() else "needs Orthanc: apt-get install orthanc orthanc-dicomweb"
URL = "http://127.0.0.1:8042/dicom-web"


def in_namespace(command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where there is no network but the loopback."""
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    return subprocess.run(
        ["unshare", "--net", "--map-root-user", *inside], cwd=cwd, capture_output=True, text=True, timeout=900
    )


class Orthanc:
    """Orthanc with an empty store in a folder; a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        settings = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": 8042,
            "DicomPort": 4242,
            "AuthenticationEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        assert PROGRAM
        with (folder / "orthanc.log").open("w") as log:
            self.process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log)

    def __enter__(self) -> Orthanc:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{URL}/studies", timeout=5).close()
            except OSError:
                time.sleep(0.5)
            else:
                return self
        self.__exit__()
        raise AssertionError("no Orthanc")

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(30)
