"""Which device a process trains or predicts on."""

from typing import Literal

from fcacli.errors import Misuse
from fcacli.events import Message, Report
from fcacli.workflows.ranks import rank
from fcacli.workspace import Workspace


def count_gpus() -> int:
    """CUDA devices of this machine."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_gpus(gpus: int | None) -> str:
    """ "cuda" or "cpu" for `--gpus`: 0 the CPU, 1 a CUDA device, None a CUDA device where there is one.

    1 is the CPU where no CUDA device is; `require_gpu` says for which bases that is allowed. Of several processes, each has the
    device of its number: "cuda:1".

    Raises:
        Misuse: more than are there, or more than one for one process.
    """
    if gpus == 0:
        return "cpu"
    there = count_gpus()
    if here := rank():
        if here.local >= there:
            raise Misuse(f"process {here.local} of this machine has no CUDA device: {there} are here", "--gpus 0 for the CPU")
        return f"cuda:{here.local}"
    if gpus is None:
        return "cuda" if there else "cpu"
    if gpus < 0:
        raise Misuse(f"--gpus must be 0 or more, got {gpus}", "fca train --gpus 0")
    if gpus > max(there, 1):
        found = "no CUDA device is" if there == 0 else f"only {there} CUDA device{'s are' if there > 1 else ' is'}"
        raise Misuse(f"--gpus {gpus}, but {found} available here", f"fca train --gpus {min(there, 1)}")
    if gpus > 1:
        raise Misuse(f"--gpus {gpus} needs as many processes, and this is one", "fca train or torchrun starts them")
    return "cuda" if there else "cpu"


def choose_eval_device(
    workspace: Workspace, run: str | None, gpus: int | None, device: str | None, report: Report
) -> str | None:
    """For `--gpus` or `--device` of `fca eval` of a run, of which one may be given; None for CUDA where there is one.

    Raises:
        Misuse: there are not so many devices.
        FcaError: no such run.
    """
    if device is not None:
        return device
    if gpus is None and rank() is None:
        return None
    chosen = choose_gpus(gpus)
    if gpus and chosen == "cpu":
        from fcacli.training.checkpoint import read_config

        require_gpu(gpus, chosen, read_config(workspace.run(run)).base, report, "eval")
    return chosen


def require_gpu(gpus: int | None, device: str, base: str, report: Report, command: Literal["train", "eval"] = "train") -> None:
    """A GPU was asked for and none is there: the miniature, made for laptops, runs on the CPU; other bases would for weeks.

    Raises:
        Misuse: the base is not the miniature.
    """
    if not gpus or device != "cpu":
        return
    missing = f"--gpus {gpus}, but no CUDA device is available here"
    if base != "mini":
        other = ", or fca train --base mini" if command == "train" else ""
        raise Misuse(f"{missing}, and {base} is not for a CPU", f"fca {command} --gpus 0 (if it must be){other}")
    does = "trains" if command == "train" else "predicts"
    report(Message(f"{missing}: the miniature {does} on the CPU", "warning"))
