"""LPIPS written a second time, from the paper, in numpy: convolutions as sums over shifted pictures, places one by one."""

import numpy as np

LAYERS = (("0", 4, 2), ("3", 1, 2), ("6", 1, 1), ("8", 1, 1), ("10", 1, 1))
"""Of AlexNet: number below features, stride, padding; the second and third take what is pooled."""


def lpips(trunk: dict, linear: dict, prediction: np.ndarray, truth: np.ndarray) -> list[float]:
    """One number a frame of uint8 (T, H, W, 3), from named float arrays."""
    return [_frame(trunk, linear, a, b) for a, b in zip(prediction, truth, strict=True)]


def _frame(trunk: dict, linear: dict, a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for number, (one, other) in enumerate(zip(_layers(trunk, a), _layers(trunk, b), strict=True)):
        weight = linear[f"lin{number}.model.1.weight"].reshape(-1)
        places = [
            sum(
                weight[c] * (one[c, i, j] / _length(one[:, i, j]) - other[c, i, j] / _length(other[:, i, j])) ** 2
                for c in range(len(weight))
            )
            for i in range(one.shape[1])
            for j in range(one.shape[2])
        ]
        total += sum(places) / len(places)
    return float(total)


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt((vector**2).sum())) + 1e-10


def _layers(trunk: dict, frame: np.ndarray) -> list[np.ndarray]:
    """The five outputs (C, h, w) after ReLU."""
    x = frame.astype(np.float64) / 255 * 2 - 1
    x = ((x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]).transpose(2, 0, 1)
    outputs = []
    for number, (name, stride, padding) in enumerate(LAYERS):
        x = _pool(x) if number in (1, 2) else x
        x = _convolve(x, trunk[f"features.{name}.weight"], trunk[f"features.{name}.bias"], stride, padding)
        x = np.where(x > 0, x, 0.0)
        outputs.append(x)
    return outputs


def _convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[-1]
    height, width = ((n - size) // stride + 1 for n in x.shape[1:])
    out = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for i in range(size):
        for j in range(size):
            seen = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            out += np.tensordot(weight[:, :, i, j], seen[:, :height, :width], 1)
    return out


def _pool(x: np.ndarray) -> np.ndarray:
    """Maximum of 3x3, every second place."""
    height, width = ((n - 3) // 2 + 1 for n in x.shape[1:])
    out = np.full((len(x), height, width), -np.inf)
    for i in range(3):
        for j in range(3):
            out = np.maximum(out, x[:, i : i + 2 * height : 2, j : j + 2 * width : 2][:, :height, :width])
    return out
