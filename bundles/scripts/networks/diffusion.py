"""Label maps made out of noise: what a segmentation network needs besides its encoder to denoise a label map."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from monai.networks.schedulers import DDIMScheduler
from monai.utils import unsqueeze_right
from torch import nn
from torch.nn import functional

from ..by_class import one_hot
from .blocks import crop_to, pad_to_multiple
from .encoder_decoder import Encoder, SegmentationNet, level_widths
from .normalisation import frozen_statistics

TIME_CHANNELS = 128
FIRST_CONV = "0.0.0"  # of the encoder's first level: in its stack, in the first block of that


class LabelDiffusion(nn.Module):
    """The path of a label map in noise through the encoder of a segmentation network, and a decoder of its own (A&D).

    A first level of its own takes the image and the noisy map, the other levels are the network's encoder, which is
    not held here but handed over. The time step is added to the map of every level. What comes out are the logits of
    the map without noise. The noise follows the linear schedule of DDPM, the sampling is DDIM.

    Args:
        network: whose encoder it works with; the first level and the decoder are made after its own.
        timesteps: of the schedule.
        sampling_steps: of these that a sample passes, `timesteps` at most.
    """

    def __init__(self, network: SegmentationNet, timesteps: int = 1000, sampling_steps: int = 10) -> None:
        super().__init__()
        self.divisor, self.channels = network.divisor, network.num_classes + 1
        self.stem = deepcopy(network.encoder.levels[0])
        first = cast(nn.modules.conv._ConvNd, self.stem.get_submodule(FIRST_CONV))
        conv = Conv[Conv.CONV, network.spatial_dims]
        wider = conv(first.in_channels + self.channels, first.out_channels, first.kernel_size, padding=first.padding)
        self.stem.set_submodule(FIRST_CONV, wider)
        self.time = nn.Sequential(
            nn.Linear(TIME_CHANNELS, TIME_CHANNELS), nn.SiLU(), nn.Linear(TIME_CHANNELS, TIME_CHANNELS), nn.SiLU()
        )
        self.shifts = nn.ModuleList(nn.Linear(TIME_CHANNELS, w) for w in level_widths(first.out_channels))
        self.decoder = deepcopy(network.decoder)
        # MONAI takes steps of timesteps // sampling_steps; with this offset its list has the same distance, down to 0.
        offset = timesteps // sampling_steps - 1
        self.schedule = DDIMScheduler(timesteps, prediction_type="sample", steps_offset=offset)
        self.schedule.set_timesteps(sampling_steps)
        self.sampled: list[int] = self.schedule.timesteps.tolist()
        for name in ("alphas_cumprod", "final_alpha_cumprod"):  # buffers, so that they go where the network goes
            value = getattr(self.schedule, name)
            delattr(self.schedule, name)
            self.schedule.register_buffer(name, value, persistent=False)

    def forward(self, encoder: Encoder, image: torch.Tensor, noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Logits [B, K + 1, *spatial] of the maps that were `noisy` [B, K + 1, *spatial] at the time `steps` [B].

        The encoder's normalisation does not remember the noisy maps: the prediction sees only images.
        """
        x = pad_to_multiple(torch.cat([image, noisy], 1), self.divisor)
        time = self.time(get_timestep_embedding(steps, TIME_CHANNELS))
        features: list[torch.Tensor] = []
        with frozen_statistics(encoder):
            for level, shift in zip([self.stem, *encoder.levels[1:]], self.shifts, strict=True):
                # Rectified, since the next normalisation would take out again what is only added.
                x = functional.relu(level(x) + unsqueeze_right(shift(time), x.dim()))
                features.append(x)
        return crop_to(self.decoder(features)[-1], list(image.shape))

    def add_noise(self, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps sqrt(a_t) (2 one_hot - 1) + sqrt(1 - a_t) noise [B, K + 1, *spatial] of labels [B, *spatial], and t [B].

        t is drawn evenly, per image; a_t is the product of all 1 - beta up to it (DDPM, formula 4).
        """
        clean = 2.0 * one_hot(label, self.channels) - 1.0
        steps = torch.randint(self.schedule.num_train_timesteps, (len(label),), device=label.device)
        return self.schedule.add_noise(clean, torch.randn(clean.shape, device=clean.device), steps), steps

    @torch.no_grad()
    def sample(self, encoder: Encoder, image: torch.Tensor) -> torch.Tensor:
        """Logits [B, K + 1, *spatial] of maps made of noise for images [B, C_in, *spatial] (DDIM, formula 12)."""
        noisy = torch.randn(len(image), self.channels, *image.shape[2:], device=image.device)
        logits = noisy
        for step in self.sampled:
            steps = torch.full((len(image),), step, device=image.device)
            logits = self(encoder, image, noisy, steps).float()
            noisy, _ = self.schedule.step(2.0 * logits.softmax(1) - 1.0, step, noisy)
        return logits
