"""Weights of other projects: a file of named tensors, read without running anything in it, that must fit a network exactly."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from fcacli.errors import FcaError

NAMED = 3
"""Keys that an error spells out."""
FETCH = "fca weights lists the file that is meant and where it comes from"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of one that torch.save wrote, by name.

    Raises:
        FcaError: it cannot be read, or holds anything but tensors (TorchScript archives do: they are programs).
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error.strerror or error}", FETCH) from None
    except pickle.UnpicklingError as error:
        raise FcaError(f"{path} is not read: it holds more than tensors and could run code", FETCH) from error
    except Exception as error:  # zip, pickle, safetensors and torch each have their own
        if "TorchScript" in str(error):
            raise FcaError(f"{path} is not read: it is a TorchScript archive, which is a program", FETCH) from error
        raise FcaError(f"cannot read {path}: {_first_line(error)}", FETCH) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise FcaError(f"{path} does not hold named tensors", FETCH)
    return dict(loaded)


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, optional: str = "$^") -> None:
    """Put `tensors` into `network`, every one of them and nothing else.

    Args:
        optional: regular expression of names that may lack or be too many, as they carry nothing.

    Raises:
        FcaError: names or shapes differ, or a number is not finite.
    """
    needed = network.state_dict()
    carries_nothing = re.compile(optional)
    lost, extra = (
        [name for name in one if name not in other and not carries_nothing.search(name)]
        for one, other in ((needed, tensors), (tensors, needed))
    )
    complaints = [f"it lacks {_listed(lost)}"] if lost else []
    complaints += [f"it has {_listed(extra)} besides"] if extra else []
    taken = {name: tensors.get(name, value) for name, value in needed.items()}
    complaints += [
        f"{name} is {tuple(value.shape)}, not {tuple(needed[name].shape)}"
        for name, value in taken.items()
        if value.shape != needed[name].shape
    ][:NAMED]
    if complaints:
        raise FcaError(f"{path} does not hold the weights of {type(network).__name__}: {'; '.join(complaints)}", FETCH)
    for name, value in taken.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise FcaError(f"{name} in {path} is not finite", FETCH)
    network.load_state_dict(taken)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
