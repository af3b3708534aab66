"""FID's Inception written a second time, as a table: every block is a list of branches, every branch a chain of steps.

A step is a layer's name, its stride and its padding (height, width), a pooling, or a fork whose parts are put side by side.
Weights come from a dict of named arrays; the batch normalisation is folded into each convolution.
"""

import torch
import torch.nn.functional as F

SAME, NONE, ROW, COLUMN = (1, 1), (0, 0), (0, 1), (1, 0)
LONG_ROW, LONG_COLUMN = (0, 3), (3, 0)


def block35() -> list:
    return [
        [("branch1x1", 1, NONE)],
        [("branch5x5_1", 1, NONE), ("branch5x5_2", 1, (2, 2))],
        [("branch3x3dbl_1", 1, NONE), ("branch3x3dbl_2", 1, SAME), ("branch3x3dbl_3", 1, SAME)],
        ["mean", ("branch_pool", 1, NONE)],
    ]


def block17() -> list:
    double = [NONE, LONG_COLUMN, LONG_ROW, LONG_COLUMN, LONG_ROW]
    return [
        [("branch1x1", 1, NONE)],
        [("branch7x7_1", 1, NONE), ("branch7x7_2", 1, LONG_ROW), ("branch7x7_3", 1, LONG_COLUMN)],
        [(f"branch7x7dbl_{n + 1}", 1, padding) for n, padding in enumerate(double)],
        ["mean", ("branch_pool", 1, NONE)],
    ]


def block8(pooling: str) -> list:
    def fork(name: str) -> list:
        return [("a", name, ROW), ("b", name, COLUMN)]

    return [
        [("branch1x1", 1, NONE)],
        [("branch3x3_1", 1, NONE), fork("branch3x3_2")],
        [("branch3x3dbl_1", 1, NONE), ("branch3x3dbl_2", 1, SAME), fork("branch3x3dbl_3")],
        [pooling, ("branch_pool", 1, NONE)],
    ]


TO17 = [
    [("branch3x3", 2, NONE)],
    [("branch3x3dbl_1", 1, NONE), ("branch3x3dbl_2", 1, SAME), ("branch3x3dbl_3", 2, NONE)],
    ["halve"],
]
TO8 = [
    [("branch3x3_1", 1, NONE), ("branch3x3_2", 2, NONE)],
    [("branch7x7x3_1", 1, NONE), ("branch7x7x3_2", 1, LONG_ROW), ("branch7x7x3_3", 1, LONG_COLUMN), ("branch7x7x3_4", 2, NONE)],
    ["halve"],
]
STEM = [
    *[("Conv2d_1a_3x3", 2, NONE), ("Conv2d_2a_3x3", 1, NONE), ("Conv2d_2b_3x3", 1, SAME), "halve"],
    *[("Conv2d_3b_1x1", 1, NONE), ("Conv2d_4a_3x3", 1, NONE), "halve"],
]
BLOCKS = {
    **{f"Mixed_5{letter}": block35() for letter in "bcd"},
    "Mixed_6a": TO17,
    **{f"Mixed_6{letter}": block17() for letter in "bcde"},
    "Mixed_7a": TO8,
    "Mixed_7b": block8("mean"),
    "Mixed_7c": block8("max"),
}


def features(state: dict[str, torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 2048)."""
    x = F.interpolate(pictures, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
    x = _chain(state, "", STEM, x)
    for name, branches in BLOCKS.items():
        x = torch.cat([_chain(state, f"{name}.", steps, x) for steps in branches], 1)
    return x.flatten(2).mean(2)


def _chain(state: dict, prefix: str, steps: list, x: torch.Tensor) -> torch.Tensor:
    for step in steps:
        if isinstance(step, list):
            x = torch.cat([_convolve(state, f"{prefix}{name}{letter}", 1, padding, x) for letter, name, padding in step], 1)
        elif step == "halve":
            x = _windows(x, 2, 0).amax(2)
        elif step == "max":
            x = _windows(x, 1, 1).amax(2)
        elif step == "mean":
            counted = _windows(torch.ones_like(x[:, :1]), 1, 1).sum(2)
            x = _windows(x, 1, 1).sum(2) / counted
        else:
            name, stride, padding = step
            x = _convolve(state, prefix + name, stride, padding, x)
    return x


def _windows(x: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
    """(B, C, 9, h, w): the 3x3 pixels under each place; padding is 0, which no maximum of ReLUs minds."""
    batch, channels, height, width = x.shape
    size = [(n + 2 * padding - 3) // stride + 1 for n in (height, width)]
    return F.unfold(x, 3, padding=padding, stride=stride).view(batch, channels, 9, *size)


def _convolve(state: dict, name: str, stride: int, padding: tuple[int, int], x: torch.Tensor) -> torch.Tensor:
    norm = {part: state[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    factor = norm["weight"] / (norm["running_var"] + 0.001).sqrt()
    weight = state[f"{name}.conv.weight"] * factor[:, None, None, None]
    return F.conv2d(x, weight, norm["bias"] - norm["running_mean"] * factor, stride, padding).clamp(min=0)
