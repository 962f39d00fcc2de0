"""MONAI Label's app for one bundle."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monailabel
import requests
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.tasks.activelearning.first import First
from monailabel.utils.async_tasks.utils import tasks

from scripts.files import read_json

from .access import EVERYWHERE, OWN_NAMES, TOKEN_VARIABLE
from .active_learning import AnyStudy, ByDisagreement, Disagreement, group_names, unscored
from .choosing import MIXTURE, NAME
from .dicom_seg import write_and_read_own_codes
from .requests import (
    RequestError,
    check_infer,
    check_name,
    check_options,
    check_train,
    check_weights,
    lies_in,
    sent_along,
)
from .tasks import Infer, Train

logger = logging.getLogger(__name__)


class BundleApp(MONAILabelApp):
    """Serves the bundle `conf["models"]` of the folder model/.

    Without a model.pt there is nothing to infer with until a training has made one; the server then finds it by itself.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self._infers: dict[str, Any] = {}
        self.bundle = conf["models"]
        self.root = Path(app_dir) / "model" / self.bundle
        # Servers of other studies, which may have the same names, work in the same folder.
        self.features = Path(app_dir) / "features" / hashlib.sha256(studies.encode()).hexdigest()[:16]
        metadata = read_json(self.root / "configs" / "metadata.json", "bundle's metadata")
        self.classes = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        self.channels = read_json(self.root / "configs" / "inference.json", "bundle config").get("in_channels", 1)
        names = [name.lower() for _, name in sorted(self.classes.items(), key=lambda item: int(item[0]))]
        write_and_read_own_codes(self.root)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"{metadata['name']} (MONAI Label {monailabel.__version__})",
            description=metadata["description"],
            version=metadata["version"],
            labels=names[1:],
        )
        # Of a DICOM server's studies, which may be any number, scoring fetches the images: only if it is asked to.
        self._auto_update_scoring &= not studies.startswith(("http://", "https://"))

    def init_datastore(self) -> Any:
        """The studies; an image is added only if it can be read, and a label for training only if it fits its image."""
        store = super().init_datastore()
        add, save = store.add_image, store.save_label

        def add_checked(image_id: str, image_filename: str, image_info: dict[str, Any]) -> Any:
            self._check_files(image_id, {"image": image_filename})
            return add(image_id, image_filename, image_info)

        def save_checked(image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> Any:
            if label_tag == DefaultLabelTag.FINAL and image_id in store.list_images():
                files = {"image": store.get_image_uri(image_id), "label": label_filename}
                self._check_files(f"label of {image_id}", files)
            return save(image_id, label_filename, label_tag, label_info)

        store.add_image, store.save_label = add_checked, save_checked
        return store

    def _check_files(self, what: str, files: Mapping[str, Any]) -> None:
        from scripts.data.transforms import LoadCased
        from scripts.errors import UserError

        try:
            LoadCased(num_classes=len(self.classes) - 1, in_channels=self.channels)(dict(files.items()))
        except UserError as error:
            raise RequestError(str(error).replace(str(list(files.values())[-1]), what), 422) from None

    def init_infers(self) -> dict[str, Any]:
        """The bundle's inference, as soon as there is a model."""
        if not (self.root / "models" / "model.pt").exists():
            return {}
        return {self.bundle: Infer(str(self.root), self.conf)}

    def init_trainers(self) -> dict[str, Any]:
        """The bundle's training."""
        return {self.bundle: Train(str(self.root), self.conf)}

    def init_strategies(self) -> dict[str, Any]:
        """How the next study to label is chosen; 3D Slicer begins with the first one."""
        mixture, most = ByDisagreement(self.root, self.features), ByDisagreement(self.root)
        return {MIXTURE: mixture, NAME: most, "random": AnyStudy(), "first": First()}

    def init_scoring_methods(self) -> dict[str, Any]:
        """What the strategies choose by."""
        names = {int(c): name.lower() for c, name in self.classes.items()}
        return {NAME: Disagreement(self.root, names, self.features)}

    def info(self) -> dict[str, Any]:
        """See MONAILabelApp.info."""
        self._find_model()
        return dict(super().info())

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """See MONAILabelApp.infer.

        Raises:
            RequestError: an unknown model or image, or a parameter that it cannot have.
        """
        self._find_model()
        self._check_model(request.get("model"), self._infers)
        image = request.get("image")
        uploads = [tempfile.gettempdir()] + ([self.sessions().store_path] if self.sessions() else [])
        if not isinstance(image, str) or not lies_in(image, uploads):
            self.check_study(image)
        named = {key: value for key, value in request.items() if key in ("model", "image", "label", "session")}
        params = {key: value for key, value in request.items() if key not in named}
        checked = check_infer(params, self._infers[self.bundle].config())
        return dict(super().infer(named | checked, datastore))

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """See MONAILabelApp.train."""
        model = request.get("model")
        return dict(super().train({"model": model, **self.check_training(model, request)}))

    def check_training(self, model: Any, request: Any) -> dict[str, Any]:
        """The options of a request to train a model.

        Raises:
            RequestError: an unknown model, no options, one that it cannot have, or no study with a label.
        """
        self._check_model(model, self._trainers)
        if not isinstance(request, dict):
            raise RequestError(f"{model}: expected a JSON object, found {request!r}")
        ours = {k: v for k, v in request.items() if k not in ("model", "bundle_path", "gpus", "local_rank")}
        checked = check_train(ours, self._trainers[self.bundle].config())
        if not self.datastore().get_labeled_images():
            raise RequestError("training: expected at least one study with a final label, found none; save one first")
        return checked

    def check_scoring(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """The options of a request to score.

        Raises:
            RequestError: an unknown method, an option that it cannot have, no model, or one without experts.
        """
        self._check_known("scoring", method, self._scoring_methods)
        self._expect_experts()
        return check_options(request, self._scoring_methods[NAME].config())

    def check_strategy(self, strategy: str, request: dict[str, Any]) -> dict[str, Any]:
        """The options of a request for the next study; those that the strategy does not have are left out.

        Raises:
            RequestError: an unknown strategy, an option that it cannot have, or for the study of most disagreement no
                model, or one without experts; the mixture, with which a viewer begins, does without.
        """
        self._check_known("strategy", strategy, self._strategies)
        if strategy not in (NAME, MIXTURE):
            return sent_along(request)
        if strategy == NAME:
            self._expect_experts()
        return check_weights(request, self._strategies[strategy].info()["config"]) | sent_along(request)

    def async_scoring(self, method: Any, params: Any = None) -> dict[str, Any]:
        """Score in the background, as MONAI Label wants after a start, a training and a request for the next study.

        Nothing is started where there is nothing to score, or where a scoring is waiting to start.
        """
        if not group_names(self.root):
            return {}
        waiting = any(task["status"] == "SUBMITTED" for task in tasks("scoring"))
        if waiting or not unscored(self.root, self.features, self.datastore()):
            return {}
        return dict(super().async_scoring(method, params) or {})

    def trainers(self) -> list[str]:
        """The models that can be trained."""
        return list(self._trainers)

    def check_study(self, image: Any) -> None:
        """See that there is a study.

        Raises:
            RequestError: no plain name, or no study of this name.
        """
        if check_name("image", image) not in self.datastore().list_images():
            raise RequestError(f"image: expected the id of a study, found {image!r}", 404)

    def _local_request(self, url: str, params: Any, action: str) -> Any:
        """As MONAI Label's own, but to the server's address and with its token: a training asks for a scoring."""
        host = self.conf.get("host", EVERYWHERE)
        address = OWN_NAMES[0] if host == EVERYWHERE else host
        token = os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://{address}:{settings.MONAI_LABEL_SERVER_PORT}{url}"
        answer = requests.post(url, json=params or {}, headers=headers, timeout=60)
        if answer.status_code != 200:
            logger.error("%s is not started: %s", action, answer.text)
        return answer.json() if answer.status_code == 200 else None

    def _check_known(self, what: str, name: str, known: dict[str, Any]) -> None:
        if name not in known:
            raise RequestError(f"{what}: expected one of {', '.join(known)}, found {name!r}", 404)

    def _check_model(self, model: Any, tasks: dict[str, Any]) -> None:
        if model != self.bundle:
            raise RequestError(f"model: expected {self.bundle!r}, found {model!r}", 404)
        if model not in tasks:
            raise RequestError(f"model: {self.bundle} has no model.pt yet; train first", 409)

    def _expect_experts(self) -> None:
        if not group_names(self.root):
            found = "one without" if (self.root / "models" / "model.pt").exists() else "none yet"
            raise RequestError(f"{NAME}: expected a model with experts (DCA), found {found}; use first or random", 409)

    def _find_model(self) -> None:
        if not self._infers:
            self._infers = self.init_infers()
