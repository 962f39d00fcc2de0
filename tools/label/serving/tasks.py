"""Inference and training of a bundle as MONAI Label's tasks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import monai.bundle
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.infer.bundle import BundleConstants, BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from ...common.trained import read_description
from .requests import RequestError
from .streams import write_streams

logger = logging.getLogger(__name__)

MOST_VOLUME = 3e9  # mm3; a whole body with its surroundings has some 1e9


class OwnNetwork(BundleConstants):
    """The bundle's `network` instead of its `network_def`: the same, in its memory format."""

    def key_network_def(self) -> str:
        """Name of the key."""
        return "network"


class Infer(BundleInferTask):
    """MONAI Label's inference with a bundle, equal voxel for voxel to the bundle's own.

    Beside what MONAI Label does, the network runs in the precision of the bundle (`amp`), its checkpoint has to fit it
    exactly, and an image that the bundle would refuse is refused.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        super().__init__(path, conf, const=OwnNetwork(), load_strict=True)

    def pre_transforms(self, data: Any = None) -> Sequence[Callable[..., Any]]:
        """The bundle's preprocessing, with its check of the image after the first step, which loads it."""
        load, *others = super().pre_transforms(data)
        return [load, self._check, *others]

    def __call__(self, request: dict[str, Any], callbacks: Any = None) -> Any:
        """Infer.

        Raises:
            RequestError: it fails with options other than the bundle's own.
        """
        try:
            return super().__call__(request, callbacks)
        except (RuntimeError, ValueError) as error:
            own = getattr(self, "displayable_configs", {})
            changed = [f"{name} {request[name]!r}" for name in own if request.get(name, own[name]) != own[name]]
            if isinstance(error, RequestError) or not changed:
                raise
            raise RequestError(f"expected options to infer with, found {', '.join(changed)}: {error}") from error

    def run_pre_transforms(self, data: dict[str, Any], transforms: Sequence[Callable[..., Any]]) -> dict[str, Any]:
        """Without `image_path` meanwhile: MONAI's Spacingd takes every item named image_... for meta data.

        Raises:
            RequestError: an image that cannot be read or prepared.
        """
        from scripts.errors import first_line

        path = data.pop("image_path", None)
        try:
            done = super().run_pre_transforms(data, transforms)
        except Exception as error:  # each reader raises its own
            if type(error).__name__ in ("RequestError", "UserError"):
                raise
            logger.exception("an image cannot be prepared")
            name = os.path.basename(str(path))
            found = first_line(error.__cause__ or error)
            raise RequestError(f"{name}: expected an image that can be read, found: {found}", 422) from error
        return {**done, "image_path": path}

    def _check(self, data: dict[str, Any]) -> dict[str, Any]:
        from scripts.data.checks import check_modality, intensity_fault

        image = data[self.key_image]
        name = os.path.basename(str(image.meta.get("filename_or_obj", "the image")))
        channels = self.bundle_config.get("in_channels", 1)
        if image.ndim != 4 or len(image) != channels:
            kind = "3 axes" if channels == 1 else f"3 axes and {channels} channels, in one NIfTI file"
            raise RequestError(f"{name}: expected an image of {kind}, found shape {tuple(image.shape)}", 422)
        for channel in image:
            if fault := intensity_fault(channel):
                raise RequestError(f"{name}: {fault}", 422)
        volume = float(image.numel() * torch.linalg.det(image.affine[:3, :3]).abs())
        if not 0 < volume <= MOST_VOLUME:  # resampled, it would fill the memory, or be empty
            raise RequestError(f"{name}: expected an image of at most {MOST_VOLUME:g} mm3, found {volume:g} mm3", 422)
        modality = self.bundle_config.get_parsed_content("dataset::modality", default=None)
        if channels == 1:
            check_modality(image, modality, name)
        return data

    def _get_network(self, device: str, data: Any) -> torch.nn.Module:
        from scripts.inference.backends import Autocast

        network = super()._get_network(device, data)
        return Autocast(network, torch.device(device), self.bundle_config.get("amp", True)).eval()


class Train(BundleTrainTask):
    """Training with both streams: studies with a final label train with it, all others without.

    It runs the bundle's own `train.json`, to which it says where the studies are, for how long to train, and which
    weights to start from. The model with the best validation replaces the one that the server infers with.
    """

    def config(self) -> dict[str, Any]:
        """The options of a request, with their defaults."""
        epochs = self.bundle_config.get_parsed_content("epochs")
        return {"device": device_list(), "pretrained": True, "max_epochs": int(epochs), "val_split": 0.2}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Raises:
            RequestError: no study has a label.
        """
        labelled, unlabelled = studies(datastore)
        if not labelled:
            raise RequestError("training: expected at least one study with a final label, found none; save one first")
        options = self.config() | request
        root, models = Path(self.bundle_path), Path(self.bundle_path) / "models"
        folder = root.parents[1] / "training"
        overrides = write_streams(folder, labelled, unlabelled, options["val_split"])
        device = name_to_device(options["device"])
        overrides |= {
            "bundle_root": str(root),
            "run_dir": str(folder / "run"),
            "ckpt_dir": str(models),
            "device": f"$torch.device({device!r})",
            "train::trainer::max_epochs": options["max_epochs"],
        }
        model = models / self.const.model_pytorch()
        if options["pretrained"] and model.exists():
            load = {"network": "@network", "path": str(model), "device": "@device"}
            first = list(self.bundle_config.config["initialize"])
            overrides["initialize"] = [*first, {"_target_": "scripts.checkpoints.load_predictor", **load}]
        logger.info("training on %d labelled and %d unlabelled studies", len(labelled), len(unlabelled))
        sys.path.insert(0, str(root))
        monai.bundle.run(
            run_id="run", meta_file=self.bundle_metadata_path, config_file=self.bundle_config_path, **overrides
        )
        return {"labelled": len(labelled), "unlabelled": len(unlabelled)}

    def stats(self) -> dict[str, Any]:
        """What model.json says of the current model, under the names that viewers show."""
        path = Path(self.bundle_path) / "models" / "model.json"
        if not path.exists():
            return {}
        about = read_description(path, "method", "labelled", "validation")
        score = dict(about["validation"])
        epoch = score.pop("epoch")
        return {
            "method": about["method"],
            "labelled": len(about["labelled"]),
            "epoch": epoch,
            "total_epochs": epoch,  # of which a viewer shows `epoch` as done: the training is over
            "best_metric": next(iter(score.values())),
        }


def studies(datastore: Datastore) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """The files of the studies with a final label (image, label), and the image of each of the others, by id."""
    labels = {pair["image"]: pair["label"] for pair in datastore.datalist()}  # of a DICOMweb server it fetches them
    images = {study: os.path.realpath(datastore.get_image_uri(study)) for study in sorted(datastore.list_images())}
    labelled = {study: (image, labels[image]) for study, image in images.items() if image in labels}
    return labelled, {study: image for study, image in images.items() if study not in labelled}
