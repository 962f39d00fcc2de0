"""What `test_label_client.py` runs with the Python of `make label`: a viewer's work by MONAI Label's own client.

Usage: label_client.py URL IMAGE LABEL. Prints what came back as a line of JSON. The image is that of a study.
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


def as_slicer_sends(task: dict[str, Any]) -> dict[str, Any]:
    """The options of a model, a training or a strategy: of a list to choose from, the first."""
    return {name: value[0] if isinstance(value, list) else value for name, value in task["config"].items()}


def trained(client: MONAILabelClient) -> str:
    """Wait for a training, and return how it ended."""
    while (status := client.train_status()["status"]) in ("SUBMITTED", "RUNNING"):
        time.sleep(0.5)
    return str(status)


def main(url: str, image: Path, label: Path, folder: str) -> dict[str, Any]:
    """Everything that a viewer does in its turn."""
    client = MONAILabelClient(url, folder, client_id="reader")
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
        print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), results)))
