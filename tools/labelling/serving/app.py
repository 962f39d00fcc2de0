"""MONAI Label's app for one bundle."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import monailabel
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

from .requests import BadRequest, check_infer, check_name, check_train
from .tasks import Infer, Train


class BundleApp(MONAILabelApp):
    """Serves the bundle `conf["models"]` of the folder model/.

    Without a model.pt there is nothing to infer with until a training has made one; the server then finds it by itself.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundle = conf["models"]
        self.root = Path(app_dir) / "model" / self.bundle
        metadata = json.loads((self.root / "configs" / "metadata.json").read_text(encoding="utf-8"))
        classes = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"{metadata['name']} (MONAI Label {monailabel.__version__})",
            description=metadata["description"],
            version=metadata["version"],
            labels=[name.lower() for _, name in sorted(classes.items(), key=lambda c: int(c[0])) if name != "background"],
        )

    def init_infers(self) -> dict[str, Any]:
        """The bundle's inference, as soon as there is a model."""
        if not (self.root / "models" / "model.pt").exists():
            return {}
        return {self.bundle: Infer(str(self.root), self.conf)}

    def init_trainers(self) -> dict[str, Any]:
        """The bundle's training."""
        return {self.bundle: Train(str(self.root), self.conf)}

    def init_strategies(self) -> dict[str, Any]:
        """How the next study to label is chosen."""
        return {"random": Random(), "first": First()}

    def info(self) -> dict[str, Any]:
        """See MONAILabelApp.info."""
        self._find_model()
        return dict(super().info())

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """See MONAILabelApp.infer.

        Raises:
            BadRequest: an unknown model or image, or a parameter that it cannot have.
        """
        self._find_model()
        model, image = request.get("model"), request.get("image")
        self._check_model(model, self._infers)
        store = datastore or self.datastore()
        uploads = [tempfile.gettempdir()] + ([self.sessions().store_path] if self.sessions() else [])
        if not isinstance(image, str) or not any(Path(image).is_relative_to(folder) for folder in uploads):
            image = check_name("image", image)
            if image not in store.list_images():
                raise BadRequest(f"image: expected the id of a study, found {image!r}", 404)
        options = self._infers[self.bundle].config()
        fixed = {key: request[key] for key in ("model", "image", "label", "session") if key in request}
        return dict(super().infer(fixed | check_infer({k: v for k, v in request.items() if k not in fixed}, options), datastore))

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """See MONAILabelApp.train."""
        return dict(super().train({"model": request.get("model"), **self.check_training(request)}))

    def check_training(self, request: dict[str, Any]) -> dict[str, Any]:
        """The options of a training request.

        Raises:
            BadRequest: an unknown model, an option that it cannot have, or no study with a label.
        """
        self._check_model(request.get("model"), self._trainers)
        ours = {k: v for k, v in request.items() if k not in ("model", "bundle_path", "gpus", "local_rank")}
        if not self.datastore().get_labeled_images():
            raise BadRequest("training: expected at least one study with a final label, found none; save one first")
        return check_train(ours, self._trainers[self.bundle].config())

    def _check_model(self, model: Any, tasks: dict[str, Any]) -> None:
        if model != self.bundle:
            raise BadRequest(f"model: expected {self.bundle!r}, found {model!r}", 404)
        if model not in tasks:
            raise BadRequest(f"model: {self.bundle} has no model.pt yet; train first", 409)

    def _find_model(self) -> None:
        if not self._infers:
            self._infers = self.init_infers()
