"""Copy-paste mixtures, their strong views and the loss of two students in numpy: what tests compare the code with."""

from __future__ import annotations

import numpy as np
import torch

from scripts.methods.base import Method
from scripts.methods.parts.mixing import random_boxes
from scripts.methods.parts.pseudo_labels import largest_components
from tests import numpy_losses
from tests.method_cases import fixed_normalisation, gradient, small_method

SIDE, LABELLED, UNLABELLED = 32, "labelled", "unlabelled"


def unlike_students(name: str, **options) -> Method:
    """A method whose students and teacher have opinions of their own."""
    method = fixed_normalisation(small_method(name, **options))
    with torch.no_grad():
        method.predictor.second.decoder.out.weight.copy_(method.predictor.first.decoder.out.weight.flip(0))
        method.teacher.module.decoder.out.weight.mul_(-1.0)
    return method


def student_logits(method: Method, *images: np.ndarray) -> list[np.ndarray]:
    """The logits of the first student on the first images, and of the second on the second."""
    nets = (method.predictor.first, method.predictor.second)
    return [net(torch.from_numpy(x)).detach().double().numpy() for net, x in zip(nets, images, strict=True)]


def draw_strong(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The strong view that comes next out of torch's generator."""
    brightness, contrast = torch.empty(2, len(image), 1, 1, 1).uniform_(0.2, 1.8).numpy()
    hit = torch.rand(len(image)).numpy() < 0.5
    boxes = random_boxes(len(image), [SIDE, SIDE]).numpy() & hit[:, None, None]
    image = image * brightness
    mean = image.mean((1, 2, 3), keepdims=True)
    image = mean + (image - mean) * contrast
    lowest, highest = image.min((1, 2, 3), keepdims=True), image.max((1, 2, 3), keepdims=True)
    noise = lowest + (highest - lowest) * torch.rand(image.shape).numpy()
    return np.where(boxes[:, None], noise, image), np.where(boxes, 0, label)


def draw_views(method: Method, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor) -> list[dict]:
    """The weak and the strong view that come next out of torch's generator, for as many images of both kinds."""
    pseudo = largest_components(method.teacher(image_u).argmax(1), 5).numpy()
    boxes = random_boxes(len(image), [SIDE, SIDE], smallest=2 / 3, largest=2 / 3).numpy()
    region = np.stack([box if i % 2 == 0 else ~box for i, box in enumerate(boxes)])
    sources = [(image.numpy(), label.numpy()), (image_u.numpy(), pseudo)]
    views = []
    for known, other in (sources, [draw_strong(*source) for source in sources]):
        mixed = np.where(region[:, None], known[0], other[0])
        views.append({"image": mixed, LABELLED: known[1], UNLABELLED: other[1], "region": region})
    return views


def cross_dice(logits: list[np.ndarray]) -> float:
    """Dice of each student's softmax against the argmax of the other's."""
    return sum(
        numpy_losses.dice(numpy_losses.softmax(own), other.argmax(1))
        for own, other in zip(logits, logits[::-1], strict=True)
    )


def pair_losses(views: list[dict], logits: list[np.ndarray]) -> dict[str, float]:
    """The parts of the loss that ABD and beta-FFT share."""
    losses = {"loss_supervised": 0.0, "loss_unlabelled": 0.0, "loss_cross": cross_dice(logits)}
    for view, own in zip(views, logits, strict=True):
        losses["loss_supervised"] += numpy_losses.segmentation(own, view[LABELLED], mask=view["region"])
        losses["loss_unlabelled"] += numpy_losses.segmentation(own, view[UNLABELLED], mask=~view["region"])
    return losses


def any_gradient(loss: torch.Tensor, module: torch.nn.Module) -> bool:
    """Whether a loss reaches any parameter of a module."""
    return bool(gradient(loss, module).any())
