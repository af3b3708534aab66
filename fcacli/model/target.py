"""What a base is trained to give for a noisy video, by its scheduler's prediction_type."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fcacli.errors import FcaError


def target(scheduler: Any, x_0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the base was trained to give for add_noise(x_0, noise, timesteps).

    The plain squared error on v is CogVideoX's own loss. It weights the error of x_0 = sqrt(a) x_t - sqrt(1 - a) v by
    1 / (1 - a), and that error is sqrt(1 - a) times the error of v.

    Raises:
        FcaError: a prediction_type that is not known here.
    """
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return scheduler.get_velocity(x_0, noise, timesteps)  # Salimans & Ho 2022 (arXiv 2202.00512), appendix D
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return x_0
    raise FcaError(f"the base's scheduler has prediction_type {kind!r}; training knows v_prediction, epsilon and sample")


def leading_to(scheduler: Any, x_0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
    """The output for x_t, (B, ...) as x_0, of a model that knows x_0: `target` for the noise that is in x_t."""
    kept = scheduler.alphas_cumprod.to(x_t.device, x_t.dtype)[timesteps].reshape(-1, *[1] * (x_t.ndim - 1))
    return target(scheduler, x_0, (x_t - kept.sqrt() * x_0) / (1 - kept).sqrt(), timesteps)
