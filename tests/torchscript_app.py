"""What an application does that has a bundle's model.ts, but none of its code.

`python torchscript_app.py MODEL_TS IMAGE SETTINGS`; SETTINGS is a JSON object that replaces keys of the inference.json
in model.ts.
"""

from __future__ import annotations

import importlib.util
import json
import sys

import torch
from monai.bundle import ConfigParser


def main(model: str, image: str, settings: str) -> None:
    """Segment an image as the model's settings say, and save the label map where they say."""
    assert importlib.util.find_spec("scripts") is None
    files = {"inference.json": ""}
    network = torch.jit.load(model, _extra_files=files).eval()
    parser = ConfigParser(json.loads(files["inference.json"]))
    parser.update(json.loads(settings))
    preprocessing, inferer, postprocessing = map(
        parser.get_parsed_content, ("preprocessing", "inferer", "postprocessing")
    )
    item = preprocessing({"image": image})
    with torch.no_grad():
        item["pred"] = inferer(item["image"][None], network)[0]
    postprocessing(item)


if __name__ == "__main__":
    main(*sys.argv[1:])
