"""I3D: Inception-v1 inflated to three dimensions, trained on Kinetics-400; its logits are what FVD and KVD compare.

Every convolution and pooling pads as TensorFlow's SAME does: as much as its stride needs, the odd one behind. Two namings of
its weights are about, and both load strictly:

    Conv3d_1a_7x7.conv3d.weight, Mixed_3b.b1a.bn.*, logits.conv3d.*                         i3d_pretrained_400.pt
    conv3d_1a_7x7.conv3d.weight, mixed_3b.branch_1.0.batch3d.*, conv3d_0c_1x1.conv3d.*      model_rgb.pth

Source: Carreira and Zisserman, 2017. B clips, T frames.
"""

import functools
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fcacli.errors import FcaError

SIZE, MIN_FRAMES, LOGITS = 224, 9, 400
"""Pixels of a side; frames below which time is pooled away before the logits."""
EPS = {"i3d_pretrained_400": 1e-5, "model_rgb": 1e-3}
"""BatchNorm's epsilon by flavour of the weights (PROTOCOL.md, "FVD")."""
WIDTHS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels that come in, and those of b0, b1a, b1b, b2a, b2b, b3b."""


class Unit(nn.Module):
    """Convolution, BatchNorm, ReLU; padded so that a stride of 1 keeps the size."""

    def __init__(self, channels: int, width: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.padding = kernel // 2 if stride == 1 else 0
        self.conv3d = nn.Conv3d(channels, width, kernel, stride, self.padding, bias=False)
        self.bn = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv3d(x)).relu_()


class FoldedUnit(nn.Module):
    """A unit with BatchNorm inside its convolution; on a CPU always oneDNN's, as torch's choice for small ones is slower."""

    def __init__(self, unit: Unit):
        super().__init__()
        self.padding, self.conv3d = unit.padding, fuse_conv_bn_eval(unit.conv3d, unit.bn)

    def forward(self, x: Tensor) -> Tensor:
        own = self.conv3d
        if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return own(x).relu_()
        return torch.mkldnn_convolution(x, own.weight, own.bias, [self.padding] * 3, own.stride, own.dilation, 1).relu_()


class Mixed(nn.Module):
    """Inception's block: 1x1, 1x1 and 3x3 twice, pooling and 1x1, side by side."""

    def __init__(self, channels: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int):
        super().__init__()
        self.b0 = Unit(channels, b0)
        self.b1a, self.b1b = Unit(channels, b1a), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(channels, b2a), Unit(b2a, b2b, 3)
        self.b3b = Unit(channels, b3b)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(max_pool(x, (3, 3, 3), (1, 1, 1)))], 1
        )


class Logits(nn.Module):
    """The last convolution, under the name that its weights have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, LOGITS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3D(nn.Module):
    """(B, 3, T, 224, 224) in [-1, 1] -> logits (B, 400), averaged over time."""

    def __init__(self, eps: float = EPS["i3d_pretrained_400"]) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, widths in WIDTHS.items():
            self.add_module(name, Mixed(*widths))
        self.logits = Logits()
        self.trained_eps = eps
        """What its weights were trained with."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps

    def forward(self, video: Tensor) -> Tensor:
        """Raises FcaError for fewer than 9 frames or another size."""
        if video.shape[2] < MIN_FRAMES or video.shape[3:] != (SIZE, SIZE):
            raise FcaError(
                f"I3D reads clips of at least {MIN_FRAMES} frames of {SIZE}x{SIZE}, got {video.shape[2]} of "
                f"{video.shape[4]}x{video.shape[3]}"
            )
        x = self.Conv3d_1a_7x7(F.pad(video, same_padding(video, (7, 7, 7), (2, 2, 2))))  # (B, 64, T/2, 112, 112)
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(max_pool(x, (1, 3, 3), (1, 2, 2))))
        x = self._blocks("Mixed_3", max_pool(x, (1, 3, 3), (1, 2, 2)))  # (B, 480, T/2, 28, 28)
        x = self._blocks("Mixed_4", max_pool(x, (3, 3, 3), (2, 2, 2)))  # (B, 832, T/4, 14, 14)
        x = self._blocks("Mixed_5", max_pool(x, (2, 2, 2), (2, 2, 2)))  # (B, 1024, T/8, 7, 7)
        return self.logits(F.avg_pool3d(x, (2, 7, 7), 1)).mean((2, 3, 4))

    def _blocks(self, stage: str, x: Tensor) -> Tensor:
        for name in WIDTHS:
            if name.startswith(stage):
                x = getattr(self, name)(x)
        return x


def fold(network: I3D) -> I3D:
    """The same network with BatchNorm inside the convolutions, in place: logits move by about 1e-6 of their size."""
    for parent in list(network.modules()):
        for name, unit in list(parent.named_children()):
            if isinstance(unit, Unit):
                setattr(parent, name, FoldedUnit(unit))
    return network


def same_padding(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """TensorFlow's SAME for x (B, C, T, H, W), in the order of F.pad: as many zeros as the last window lacks."""
    padding: list[int] = []
    for size, taps, step in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        lacks = max((-(-size // step) - 1) * step + taps - size, 0)
        padding += [lacks // 2, lacks - lacks // 2]
    return padding


def max_pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """SAME max pooling of what is not negative, one axis after the other: bit for bit what max_pool3d gives.

    On a CPU max_pool3d is not vectorised for this layout: 3x3x3 over (256, 8, 28, 28) takes it 115 ms, this 5 ms.
    """
    x = F.pad(x, same_padding(x, kernel, stride))
    for axis, (taps, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        if taps > 1:
            span = (x.shape[axis] - taps) // step * step + 1
            before = (slice(None),) * axis
            x = functools.reduce(torch.maximum, [x[*before, at : at + span : step] for at in range(taps)])
    return x


def load_i3d(path: Path, eps: float | None = None) -> I3D:
    """The network with the weights of a file of plain tensors, in either naming; `eps` in place of the flavour's own.

    Raises:
        FcaError: the file is not there, holds more than tensors, is a TorchScript archive, or is not I3D's to the last tensor.
    """
    state = _read(path)
    flavour = "model_rgb" if any(name.startswith("conv3d_1a_7x7.") for name in state) else "i3d_pretrained_400"
    network = I3D(EPS[flavour] if eps is None else eps)
    network.trained_eps = EPS[flavour]
    own = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    public = own if flavour == "i3d_pretrained_400" else {_model_rgb_name(name): value for name, value in own.items()}
    wrong = [name for name in state if name not in public]
    wrong += [name for name, value in public.items() if name not in state or state[name].shape != value.shape]
    if wrong:
        few = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise FcaError(f"{path} does not hold the weights of I3D: missing, of another shape, or too many: {few}", HINT)
    unusable = next((name for name, value in state.items() if not (value.is_floating_point() and value.isfinite().all())), None)
    if unusable:
        raise FcaError(f"{path}: {unusable} is not finite", HINT)
    values = {name: state[there].float() for name, there in zip(own, public, strict=True)}
    network.load_state_dict(network.state_dict() | values)
    return network.eval().requires_grad_(False)


HINT = "take i3d_pretrained_400.pt, or Kinetics-I3D's model_rgb.pth; `fca weights` says where from"


def _model_rgb_name(name: str) -> str:
    """Mixed_3b.b1a.bn.bias -> mixed_3b.branch_1.0.batch3d.bias."""
    name = re.sub(r"\.b([12])([ab])\.", lambda m: f".branch_{m[1]}.{'ab'.index(m[2])}.", name)
    name = name.replace(".b0.", ".branch_0.").replace(".b3b.", ".branch_3.1.").replace(".bn.", ".batch3d.")
    return re.sub("^logits", "conv3d_0c_1x1", name).replace("Conv3d", "conv3d").replace("Mixed", "mixed")


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name, without BatchNorm's counters."""
    try:
        if _is_torchscript(path):
            raise FcaError(f"{path} is a TorchScript archive: a program, which is not run here", CONVERT.format(path))
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FcaError(f"there are no I3D weights at {path}", HINT) from error
    except pickle.UnpicklingError as error:
        raise FcaError(f"{path} holds more than tensors, and is not loaded", HINT) from error
    except FcaError:
        raise
    except Exception as error:  # whatever torch makes of a file that is none of its own
        raise FcaError(
            f"cannot read {path} as weights: {(str(error) or type(error).__name__).splitlines()[0]}", HINT
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FcaError(f"{path} holds something else than tensors by name", HINT)
    return {str(name): value for name, value in state.items() if not str(name).endswith("num_batches_tracked")}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


CONVERT = (
    "take i3d_pretrained_400.pt instead, which has the same weights; or, if you trust it, convert it once: "
    "python -c \"import torch; torch.save(torch.jit.load('{}').state_dict(), 'i3d.pt')\""
)
