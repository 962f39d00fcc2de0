"""Disturbed views of images, with voxels at the same places."""

from __future__ import annotations

import torch

from .mixing import random_boxes


def change_intensities(image: torch.Tensor, strength: float) -> torch.Tensor:
    """[B, C_in, *spatial] with each image's brightness, then contrast, scaled by factors of up to 1 +- strength.

    Brightness scales intensities, contrast their distance from the image's mean. Drawn from torch's generator on the
    CPU, which a resume checkpoint restores.
    """
    factors = torch.empty(2, len(image), *[1] * (image.dim() - 1)).uniform_(1.0 - strength, 1.0 + strength)
    brightness, contrast = factors.to(image)
    image = image * brightness
    mean = image.mean(list(range(1, image.dim())), keepdim=True)
    return mean + (image - mean) * contrast


def cut_out_boxes(image: torch.Tensor, label: torch.Tensor, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, C_in, *spatial] and [B, *spatial] with a random box of noise and background, in each image with this `rate`.

    The noise is uniform between the smallest and the largest value of the image.
    """
    hit = (torch.rand(len(image)) < rate).view(-1, *[1] * (label.dim() - 1))
    box = (random_boxes(len(image), list(label.shape[1:])) & hit).to(image.device)
    axes = list(range(1, image.dim()))
    lowest, highest = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    noise = lowest + (highest - lowest) * torch.rand(image.shape).to(image)
    return torch.where(box.unsqueeze(1), noise, image), label.masked_fill(box, 0)


def add_noise(image: torch.Tensor, deviation: float) -> torch.Tensor:
    """[B, C_in, *spatial] plus Gaussian noise of this standard deviation, clipped at twice that."""
    noise = (torch.randn(image.shape) * deviation).clamp(-2.0 * deviation, 2.0 * deviation)
    return image + noise.to(image)
