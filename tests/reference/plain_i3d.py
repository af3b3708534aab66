"""I3D written a second time, as it usually is: pad, convolve, normalise, rectify, one operation after the other.

It shares no code with fcacli.evaluation, and is the straightforward implementation that speed is measured against.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = {
    "3b": (192, (64, 96, 128, 16, 32, 32)),
    "3c": (256, (128, 128, 192, 32, 96, 64)),
    "4b": (480, (192, 96, 208, 16, 48, 64)),
    "4c": (512, (160, 112, 224, 24, 64, 64)),
    "4d": (512, (128, 128, 256, 24, 64, 64)),
    "4e": (512, (112, 144, 288, 32, 64, 64)),
    "4f": (528, (256, 160, 320, 32, 128, 128)),
    "5b": (832, (256, 160, 320, 32, 128, 128)),
    "5c": (832, (384, 192, 384, 48, 128, 128)),
}


def units() -> dict[str, tuple[int, int, int]]:
    """Every convolution with BatchNorm: name -> channels in, out, kernel; in i3d_pretrained_400.pt's naming."""
    found = {"Conv3d_1a_7x7": (3, 64, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (64, 192, 3)}
    for name, (channels, (b0, b1a, b1b, b2a, b2b, b3b)) in CHANNELS.items():
        found |= {
            f"Mixed_{name}.b0": (channels, b0, 1),
            f"Mixed_{name}.b1a": (channels, b1a, 1),
            f"Mixed_{name}.b1b": (b1a, b1b, 3),
            f"Mixed_{name}.b2a": (channels, b2a, 1),
            f"Mixed_{name}.b2b": (b2a, b2b, 3),
            f"Mixed_{name}.b3b": (channels, b3b, 1),
        }
    return found


def random_weights(seed: int = 0) -> dict[str, Tensor]:
    """A state dict as i3d_pretrained_400.pt's, of weights that keep activations at their size."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (channels, width, kernel) in units().items():
        scale = math.sqrt(2 / (channels * kernel**3))
        state[f"{name}.conv3d.weight"] = scale * torch.randn(width, channels, *[kernel] * 3, generator=generator)
        state[f"{name}.bn.weight"] = 0.8 + 0.4 * torch.rand(width, generator=generator)
        state[f"{name}.bn.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.bn.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.bn.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(1)
    state["logits.conv3d.weight"] = torch.randn(400, 1024, 1, 1, 1, generator=generator) / 32
    state["logits.conv3d.bias"] = torch.randn(400, generator=generator)
    return state


def as_model_rgb(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in the naming of Kinetics-I3D's model_rgb.pth."""
    branches = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1"}
    branches |= {"b2a": "branch_2.0", "b2b": "branch_2.1", "b3b": "branch_3.1"}
    renamed = {}
    for name, value in state.items():
        parts = [branches.get(part, {"bn": "batch3d", "logits": "conv3d_0c_1x1"}.get(part, part)) for part in name.split(".")]
        renamed[".".join([parts[0][0].lower() + parts[0][1:], *parts[1:]])] = value
    return renamed


@torch.no_grad()
def plain_logits(state: dict[str, Tensor], video: Tensor, eps: float) -> Tensor:
    """(B, 3, T, 224, 224) in [-1, 1] -> (B, 400)."""

    def around(size: int, kernel: int, stride: int) -> tuple[int, int]:
        needed = kernel - stride if size % stride == 0 else kernel - size % stride
        return max(needed, 0) // 2, max(needed, 0) - max(needed, 0) // 2

    def padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
        (t, h, w) = (around(x.shape[2 + axis], kernel[axis], stride[axis]) for axis in range(3))
        return F.pad(x, (*w, *h, *t), value=value)

    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv3d.weight"]
        x = F.conv3d(padded(x, tuple(weight.shape[2:]), (stride,) * 3, 0.0), weight, stride=stride)
        norm = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *norm, eps=eps))

    def pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
        return F.max_pool3d(padded(x, kernel, stride, -math.inf), kernel, stride)

    def mixed(x: Tensor, name: str) -> Tensor:
        name = f"Mixed_{name}"
        return torch.cat(
            [
                unit(x, f"{name}.b0"),
                unit(unit(x, f"{name}.b1a"), f"{name}.b1b"),
                unit(unit(x, f"{name}.b2a"), f"{name}.b2b"),
                unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b"),
            ],
            dim=1,
        )

    x = pool(unit(video, "Conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    for name in CHANNELS:
        if name == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if name == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        x = mixed(x, name)
    x = F.conv3d(F.avg_pool3d(x, (2, 7, 7), stride=1), state["logits.conv3d.weight"], state["logits.conv3d.bias"])
    return x.squeeze(4).squeeze(3).mean(2)
