"""A step of training, whatever the method, the classes and the sizes: it is finite, and no label is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scripts.methods import METHODS, create_method, create_predictor
from scripts.methods.base import Method
from scripts.training.step import Step
from tests.method_cases import gradient
from tests.properties.profiles import costly
from tests.properties.scans import Storage, class_counts, labels, seeds

everyone = pytest.mark.parametrize("name", sorted(METHODS))


@dataclass(frozen=True)
class Training:
    """How a method is made, and what its batches are like.

    watched: a class that is in a fifth of the labels' voxels; of the others, any may be absent.
    """

    preset: str
    classes: int
    watched: int
    size: tuple[int, ...]
    labelled: int
    unlabelled: int
    progress: float
    seed: int

    def method(self, name: str, storage: Storage, folder: Path) -> Method:
        """Around a fresh network, and ready with a label file of all classes."""
        ids = np.arange(12 * 10 * 8).reshape(12, 10, 8) % (self.classes + 1)
        label = storage.save(folder / "label", ids, np.eye(4))
        torch.manual_seed(self.seed % 1000)
        sizes = {"in_channels": 1, "num_classes": self.classes, "width": 2, "spatial_dims": len(self.size)}
        net = create_predictor(name, self.preset, style={2: "unet", 3: "vnet"}[len(self.size)], **sizes)
        return create_method(name, net, self.preset, label_files=[str(label)])

    def batch(self) -> dict[str, torch.Tensor]:
        """Noise and labels of noise."""
        rng = np.random.default_rng(self.seed)
        present = rng.permutation(self.classes + 1)[: rng.integers(1, self.classes + 2)]
        label = rng.choice(present, (self.labelled, 1, *self.size))
        label[rng.random(label.shape) < 0.2] = self.watched
        images = [rng.random((n, 1, *self.size)) for n in (self.labelled, self.unlabelled)]
        found = {"image": images[0], "label": label} | ({"image_u": images[1]} if self.unlabelled else {})
        return {key: torch.as_tensor(values, dtype=torch.float32) for key, values in found.items()}


@st.composite
def trainings(draw: Callable[..., Any]) -> Training:
    """On images of any size that torch can normalise one of: in the cubes that some methods cut them into, three along
    an axis, one axis has more than the 16 voxels of the coarsest map's one."""
    size = draw(st.lists(st.integers(5, 18), min_size=2, max_size=3))
    size[draw(st.integers(0, len(size) - 1))] = draw(st.integers(51, 64))
    preset, classes = draw(st.sampled_from(["cpu", "published"])), draw(class_counts)
    images = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    watched, progress = draw(st.integers(1, classes)), draw(st.floats(0, 1))
    return Training(preset, classes, watched, tuple(size), *images, progress, draw(seeds))


@everyone
@costly(50)
@given(trainings(), labels)
def test_losses_and_weights_stay_finite(
    folder: Callable[[], Path], name: str, training: Training, storage: Storage
) -> None:
    method = training.method(name, storage, folder())
    step = Step(method, torch.optim.SGD(method.parameters(), 0.01, momentum=0.9), torch.device("cpu"), amp=False)
    for number in (1, 2):
        torch.manual_seed(number)
        step.begin(number, training.progress)
        assert all(value.isfinite() for value in step(training.batch()).values())
    assert all(values.isfinite().all() for values in method.state_dict().values())


@everyone
@costly(50)
@given(trainings(), labels)
def test_the_label_of_every_class_teaches(
    folder: Callable[[], Path], name: str, training: Training, storage: Storage
) -> None:
    method, batch = training.method(name, storage, folder()), training.batch()
    without = batch["label"].where(batch["label"] != training.watched, 0)
    state = {name: values.clone() for name, values in method.state_dict().items()}
    taught = []
    for label in (batch["label"], without):
        method.load_state_dict(state)
        torch.manual_seed(0)
        method.enter(training.progress)
        losses = method(batch["image"], label[:, 0].long(), batch.get("image_u"), training.progress)
        taught.append(gradient(losses["loss"], method.predictor))
    assert not torch.equal(*taught)
