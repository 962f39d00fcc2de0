"""What an application does that has a bundle's inference.json and model.ts, but none of its code.

`python torchscript_app.py INFERENCE_JSON MODEL_TS IMAGE SETTINGS`; SETTINGS is a JSON object that replaces keys.
"""

from __future__ import annotations

import importlib.util
import json
import sys

import torch
from monai.bundle import ConfigParser


def main(config: str, model: str, image: str, settings: str) -> None:
    """Segment an image as the config says, and save the label map where it says."""
    assert importlib.util.find_spec("scripts") is None
    parser = ConfigParser()
    parser.read_config(config)
    parser.update(json.loads(settings))
    preprocessing, inferer, postprocessing = map(
        parser.get_parsed_content, ("preprocessing", "inferer", "postprocessing")
    )
    item = preprocessing({"image": image})
    with torch.no_grad():
        item["pred"] = inferer(item["image"][None], torch.jit.load(model).eval())[0]
    postprocessing(item)


if __name__ == "__main__":
    main(*sys.argv[1:])
