"""What MONAI Label 0.8.5 does with bundles, in its order and in one process, but without MONAI Label.

`python label_app.py JOBS`, a JSON list: {"bundle", "image", "output", "chosen"} is inferred on, {"bundle", "labelled",
"validation", "settings"} is trained. Nothing of this project is importable but through the bundles.
"""

from __future__ import annotations

import copy
import glob
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import torch
from monai.bundle import ConfigItem, ConfigParser
from monai.transforms import Compose, LoadImaged, Resize, SaveImaged

DEVICE = "cpu"  # MONAI Label hands it over as a string


@contextmanager
def scripts_of(bundle: str) -> Iterator[None]:
    """The bundle's folder first on the path, and no package `scripts` of an earlier bundle in memory."""
    sys.path.insert(0, bundle)
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    yield
    sys.path.remove(bundle)


def read(bundle: str, name: str) -> ConfigParser:
    """A config of the bundle with the bundle's folder in it."""
    parser = ConfigParser()
    parser.read_config(os.path.join(bundle, "configs", name))
    parser.config["bundle_root"] = bundle
    return parser


class InferTask:
    """A bundle as a model that infers."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.parser = read(bundle, "inference.json")
        self.path = os.path.join(bundle, "models", "model.pt")
        self.network = None
        with scripts_of(bundle):
            if os.path.exists(self.path):
                self.network = self.parser.get_parsed_content("network_def", instantiate=True)
            else:
                self.path = os.path.join(bundle, "models", "model.ts")
                assert os.path.exists(self.path)
            metadata = json.loads(Path(bundle, "configs", "metadata.json").read_text())
            formats = metadata["network_data_format"]
            self.image, about_image = next(iter(formats["inputs"].items()))
            self.pred, about_pred = next(iter(formats["outputs"].items()))
            labels = {name.lower(): int(c) for c, name in about_pred["channel_def"].items()}
            self.displayed: dict[str, Any] = {}
            if self.parser.get("displayable_configs"):
                self.displayed = self.parser.get_parsed_content("displayable_configs", instantiate=True)
        self.info = {
            "labels": {name: c for name, c in labels.items() if name != "background"},
            "dimension": len(about_image["spatial_shape"]),
            "description": metadata["description"],
            "version": metadata["version"],
            "models": [os.path.basename(path) for path in glob.glob(os.path.join(bundle, "models", "*.pt"))],
            "displayed": dict(self.displayed),
        }

    def __call__(self, image: str, chosen: dict[str, Any]) -> np.ndarray:
        """The label map on the grid of the file; `chosen` are the user's values of the displayed settings."""
        data: dict[str, Any] = {"image": image, "device": DEVICE} | copy.deepcopy(self.displayed) | chosen
        if self.displayed:
            self.parser["displayable_configs"].update({key: data[key] for key in self.displayed})
            self.parser.parse()
        for transform in self._content("preprocessing"):
            if isinstance(transform, LoadImaged):
                transform._loader.image_only = False
            data = transform(data)
        inferer = self._content("inferer")
        if self.network is not None:
            network = copy.deepcopy(self.network)
            content = torch.load(self.path, map_location=DEVICE)
            state = content.get("model", content)
            assert network.state_dict().keys() == state.keys()  # MONAI Label would only warn
            network.load_state_dict(state)
        else:
            network = torch.jit.load(self.path, map_location=DEVICE)
        with torch.no_grad():
            data[self.pred] = inferer(data[self.image][None], network.eval())[0]
        for transform in self._content("postprocessing"):
            if not isinstance(transform, SaveImaged):
                data = transform(data)
        pred, size = data[self.pred], data[self.image].meta["spatial_shape"]
        if tuple(pred.shape[1:]) != tuple(size):
            pred = Resize(spatial_size=size, mode="nearest")(pred)
        return np.asarray(pred[0])

    def _content(self, key: str) -> Any:
        with scripts_of(self.bundle):
            self.parser.config["device"] = DEVICE
            if self.parser.ref_resolver.items.get("device"):
                self.parser.ref_resolver.items["device"] = ConfigItem(config=DEVICE, id="device")
            content = self.parser.get_parsed_content(key, instantiate=True)
        return list(content.transforms) if isinstance(content, Compose) else content


def train(bundle: str, labelled: list[Any], validation: list[Any], settings: dict[str, Any]) -> None:
    """Train for an epoch, on labelled images alone, from the weights that the bundle has."""
    handlers = read(bundle, "train.json").get("train#handlers", [])
    weights = os.path.join(bundle, "models", "model.pt")
    if os.path.exists(weights):
        load = {"_target_": "CheckpointLoader", "load_path": weights, "strict": False}
        handlers.insert(0, load | {"load_dict": {"model": "$@network"}})
    overrides = {
        "bundle_root": bundle,
        "train#trainer#max_epochs": 1,
        "train#dataset#data": labelled,
        "device": DEVICE,
        "train#handlers": handlers,
        "validate#dataset#data": validation,
    }
    meta, config = (os.path.join(bundle, "configs", name) for name in ("metadata.json", "train.json"))
    with scripts_of(bundle):
        monai.bundle.run(
            run_id="run", init_id=None, final_id=None, meta_file=meta, config_file=config, **overrides | settings
        )


def main(jobs: list[dict[str, Any]]) -> None:
    """All models are made before the first is used, as when the server starts; each request reads the configs anew."""
    tasks = [InferTask(job["bundle"]) if "image" in job else None for job in jobs]
    for job, task in zip(jobs, tasks, strict=True):
        if task is not None:
            np.save(job["output"], task(job["image"], job.get("chosen", {})))
            print("INFO", json.dumps(task.info))
        else:
            train(**job)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
