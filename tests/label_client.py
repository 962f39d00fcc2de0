"""What `test_label_client.py` runs with the Python of `make label`: a viewer's work by MONAI Label's own client.

Usage: label_client.py URL TOKEN IMAGE LABEL. Prints what came back as a line of JSON. The image is that of a study.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from monailabel.client import MONAILabelClient

MODEL = "dca_synapse"


class Client:
    """As 3D Slicer's plugin uses MONAI Label's client: it logs in once, and makes a new client for every request.

    With a token, a client of MONAI Label 0.8.5 sends the headers of its last upload with all later requests.
    """

    def __init__(self, url: str, token: str, folder: str) -> None:
        self.about = (url, folder, "reader")
        client = MONAILabelClient(*self.about)
        assert client.auth_enabled()
        self.token = client.auth_token("reader", token)
        assert self.auth_valid_token()

    def __getattr__(self, request: str) -> Any:
        client = MONAILabelClient(*self.about)
        client.update_auth(self.token)
        return getattr(client, request)


def as_slicer_sends(task: dict[str, Any]) -> dict[str, Any]:
    """The options of a model, a training or a strategy: of a list to choose from, the first."""
    return {name: value[0] if isinstance(value, list) else value for name, value in task["config"].items()}


def trained(client: Client) -> str:
    """Wait for a training, and return how it ended."""
    while (status := client.train_status()["status"]) in ("SUBMITTED", "RUNNING"):
        time.sleep(0.5)
    return str(status)


def main(url: str, token: str, image: Path, label: Path, folder: str) -> dict[str, Any]:
    """Everything that a viewer does in its turn."""
    client = Client(url, token, folder)
    info = client.info()
    study = image.name.split(".")[0]
    found: dict[str, Any] = {"labels": info["labels"], "next": {}}
    for name, strategy in info["strategies"].items():
        found["next"][name] = client.next_sample(name, as_slicer_sends({"config": {}} | strategy))["id"]
    seen_by = client.datastore()["objects"][found["next"]["disagreement"]]["image"]["info"]["strategy"]["disagreement"]
    found["seen_by"] = seen_by["client_id"]

    options = as_slicer_sends(info["models"][MODEL]) | {"result_extension": ".nrrd", "result_dtype": "uint8"}
    found["inferred"] = Path(client.infer(MODEL, study, options)[0]).stat().st_size
    session = client.create_session(str(image))["session_id"]
    found["in_session"] = Path(client.infer(MODEL, "", options, session_id=session)[0]).stat().st_size
    assert client.get_session(session)["image"].endswith(image.name)
    client.remove_session(session)
    found["uploaded"] = client.upload_image(str(image), "uploaded")["image"]

    saved = client.save_label(study, str(label), params={"label_info": [{"name": "liver", "idx": 6}]})["label"]
    found["label"] = Path(client.download_label(saved, "final")).read_bytes() == label.read_bytes()
    options = as_slicer_sends(info["trainers"][MODEL]) | {"max_epochs": 1}
    found["started"] = client.train_start(MODEL, options)["request"]["max_epochs"]
    found["trained"] = trained(client)
    found["all_started"] = client.train_start(None, {MODEL: options})[MODEL]["result"]["request"]["max_epochs"]
    found["all_trained"] = trained(client)
    found["default_started"] = list(client.train_start(None, {}))  # "ALL" in 3D Slicer
    while not client.train_status(check_if_running=True):
        time.sleep(0.1)
    found["stopped"] = client.train_stop()["status"]
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as results:
        print(json.dumps(main(*sys.argv[1:3], Path(sys.argv[3]), Path(sys.argv[4]), results)))
