"""Disturbed views of images, with voxels at the same places."""

from __future__ import annotations

import torch

from .mixing import picked, random_boxes


def change_intensities(image: torch.Tensor, strength: float) -> torch.Tensor:
    """[B, C_in, *spatial] with each channel's brightness, then contrast, scaled by factors of up to 1 +- strength.

    Brightness scales intensities, contrast their distance from the channel's mean. Each channel has factors of its own.
    """
    shape = [2, *image.shape[:2], *[1] * (image.dim() - 2)]
    brightness, contrast = image.new_empty(shape).uniform_(1.0 - strength, 1.0 + strength)
    image = image * brightness
    mean = image.mean(list(range(2, image.dim())), keepdim=True)
    return mean + (image - mean) * contrast


def blur(image: torch.Tensor, smallest: float, largest: float) -> torch.Tensor:
    """[B, C_in, *spatial] smoothed by a Gaussian, whose standard deviation in voxels is drawn evenly for each image.

    Its weights add up to 1 within the image: nothing comes in from beyond the border.
    """
    deviation = torch.empty(len(image), 1, 1, device=image.device).uniform_(smallest, largest)
    with torch.autocast(image.device.type, enabled=False):  # as exact as the image
        for axis in range(2, image.dim()):
            place = torch.arange(image.shape[axis], device=image.device)
            distance = (place - place.unsqueeze(1)) / deviation
            weights = (-0.5 * distance.square()).softmax(-1)  # [B, side, side]
            image = torch.einsum("bij,bc...j->bc...i", weights, image.float().movedim(axis, -1)).movedim(-1, axis)
    return image


def cut_out_boxes(image: torch.Tensor, label: torch.Tensor, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, C_in, *spatial] and [B, *spatial] with a random box of noise and background, in each image with this `rate`.

    The noise is uniform between the smallest and the largest value of the image.
    """
    hit = picked(rate, label)
    box = hit & random_boxes(len(image), list(label.shape[1:]), image.device)
    axes = list(range(1, image.dim()))
    lowest, highest = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    noise = lowest + (highest - lowest) * torch.rand(image.shape, device=image.device)
    return torch.where(box.unsqueeze(1), noise, image), label.masked_fill(box, 0)


def add_noise(image: torch.Tensor, deviation: float) -> torch.Tensor:
    """[B, C_in, *spatial] plus Gaussian noise of this standard deviation, clipped at twice that."""
    return image + (torch.randn(image.shape, device=image.device) * deviation).clamp(-2.0 * deviation, 2.0 * deviation)
