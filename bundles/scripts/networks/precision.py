"""Where reduced precision pays, and where it goes wrong."""

from __future__ import annotations

import torch

from .encoder_decoder import DIVISOR


def autocast_dtype(device: torch.device | str) -> torch.dtype | None:
    """The reduced precision that pays on this device, or None for float32.

    bfloat16 on CPUs with its instructions (without them it is emulated and slow) and on GPUs that have it, float16 on
    older GPUs.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return None


def miscomputed_in_bfloat16(images: torch.Tensor) -> bool:
    """Whether torch 2.13 gets the gradients of a network on [B, C, *spatial] wrong on a CPU in bfloat16.

    It reads memory that nobody wrote in the weights' gradient of a 3D convolution whose input has two voxels along its
    first axis; sizes up to 32 come down to two on their way through the network.
    """
    return images.device.type == "cpu" and images.dim() == 5 and images.shape[2] <= 2 * DIVISOR
