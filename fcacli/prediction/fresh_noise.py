"""A sampler that never looks back: predict the clean video, add new noise to it, and again with less.

    clean = what the model makes of x_t          x_s = sqrt(a_s) clean + sqrt(1 - a_s) new noise          s < t

DDIM keeps the noise that it began with, and with it every mistake of an early step: the adapted model reads its own mistakes
in x_t as if they were the truth that it saw there in training. New noise covers them, and what is given is read again.

Source: Song, Dhariwal, Chen and Sutskever, 2023 (arXiv 2303.01469), algorithm 1, with a diffusion model in the place of the
consistency model.
"""

from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler
from diffusers.schedulers.scheduling_ddim_cogvideox import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

_Scheduler: Any = CogVideoXDDIMScheduler  # diffusers has no types


class FreshNoiseScheduler(_Scheduler):  # type: ignore[misc]
    """In the place of a pipeline's DDIM or DPM scheduler: `FreshNoiseScheduler.from_config(pipe.scheduler.config)`."""

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """One step, from x_t (B, F, C, h, w) and the model's output for it.

        Args:
            generator: of the noise; one on the CPU gives the same noise on every device.

        Returns:
            x_s, at the last step the predicted clean latents; and these.
        """
        found = super().step(model_output, timestep, sample)
        found.prev_sample = found.pred_original_sample
        following = self.timesteps[self.timesteps.tolist().index(int(timestep)) + 1 :]
        if len(following):
            noise = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            found.prev_sample = self.add_noise(found.pred_original_sample, noise, following[0].expand(len(sample)))
        return found if return_dict else (found.prev_sample, found.pred_original_sample)
