"""A trained adapter found in a workspace, and the base it goes onto: what `fca predict` and `fca eval` start from."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcacli.config import Offload, TrainConfig
from fcacli.errors import FcaError, Misuse
from fcacli.events import Report
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    import torch

    from fcacli.model.attach import Adapter
    from fcacli.model.bases.cogvideox import CogVideoX


@dataclass(frozen=True)
class Trained:
    """A checkpoint and its base, whose parts are loaded when they are first used."""

    run: Path
    checkpoint: Path
    step: int
    config: TrainConfig
    base: "CogVideoX"

    def identity(self) -> dict[str, Any]:
        """What decides the numbers: adapter, base, and the arithmetic."""
        adapter = self.checkpoint / "adapter.safetensors"
        return {
            "run": self.run.name,
            "step": self.step,
            "adapter": self.config.adapter.kind,
            "adapter_sha256": hashlib.sha256(adapter.read_bytes()).hexdigest(),
            **base_identity(self.base),
        }

    def describe(self) -> str:
        """One line: which adapter, on which base, where."""
        base = self.base
        dtype = ", ".join([str(base.dtype).removeprefix("torch."), *self._kept_differently()])
        return f"run {self.run.name}, step {self.step}: {self.config.adapter.kind} on {base.spec.name} ({base.device}, {dtype})"

    def _kept_differently(self) -> list[str]:
        keeping = self.base.keeping
        weights = [f"{keeping.base_weights} base"] if keeping.base_weights != "full" else []
        return weights + ["decoded in tiles"] * keeping.vae_tiling + ["compiled"] * keeping.compile

    def keep(self, offload: Offload) -> None:
        """Let the base's blocks wait in main memory from now on, where `offload` says so."""
        if offload == "sequential":
            self.base.keep(replace(self.base.keeping, block_swap=self.base.layers))

    def load(self, offload: Offload = "none") -> "Adapter":
        """Put the adapter onto the base, for predictions only; what waits in main memory, `offload` says.

        "model": what FCA computes once per clip with; "sequential": the base's blocks, too. Float32 weights come to the
        device when they are what sampling keeps of them.
        """
        import torch

        from fcacli.model.attach import load_adapter
        from fcacli.model.fca import FCAAdapter

        base = self.base
        self.keep(offload)
        adapter = load_adapter(base, self.checkpoint, device=torch.device("cpu"))
        if isinstance(adapter, FCAAdapter):
            adapter.only_sample(base.dtype)
            adapter.wait(base.device) if offload != "none" else adapter.to(base.device)
        return adapter


def base_identity(base: "CogVideoX") -> dict[str, Any]:
    """What decides the numbers of a base alone."""
    return {
        "base": base.spec.name,
        "base_fingerprint": base.fingerprint,
        "device": base.device.type,
        "dtype": str(base.dtype).removeprefix("torch."),
        **base.keeping.decides,
    }


def find_trained(
    workspace: Workspace,
    run: str | None,
    checkpoint: str | None,
    device: str | None,
    report: Report,
    compile: bool | None = None,
) -> Trained:
    """The run and checkpoint of that name, or the latest ones.

    Args:
        compile: run the transformer's blocks compiled; None for as the run was trained.

    Raises:
        Misuse: `device` is not there.
        FcaError: no such run or checkpoint, or the base is another one than it was trained on.
    """
    from fcacli.model.bases import load_base, resolve_base
    from fcacli.training.checkpoint import read_config

    folder = workspace.run(run)
    config = read_config(folder)
    found = _find_checkpoint(folder, checkpoint, report)
    try:
        spec = resolve_base(config.base)
    except Misuse as error:  # no option is wrong: a folder is gone
        raise FcaError(f"the base of run {folder.name} is not there: {error.message}", "put the folder back") from None
    base = load_base(spec, choose_device(device))
    if base.fingerprint != config.base_fingerprint:
        raise FcaError(
            f"run {folder.name} was trained on another version of {config.base} "
            f"(fingerprint {config.base_fingerprint}, here {base.fingerprint})",
            "fca train --new",
        )
    base.keep(config.keeping if compile is None else replace(config.keeping, compile=compile))
    return Trained(folder, found, int(found.name.removeprefix("step-")), config, base)


def _find_checkpoint(run: Path, name: str | None, report: Report) -> Path:
    from fcacli.training.checkpoint import all_checkpoints, latest, step_of, verify

    if name is None:
        if (found := latest(run, report)) is None:
            raise FcaError(f"run {run.name} has no checkpoint yet", Workspace.continuing(run))
        return found
    for folder in all_checkpoints(run):
        if name in (folder.name, str(step_of(folder))):
            verify(folder)
            return folder
    known = ", ".join(folder.name for folder in all_checkpoints(run)) or "none"
    raise FcaError(f"run {run.name} has no checkpoint {name!r} (there: {known})", "fca predict without --checkpoint")


def choose_device(name: str | None) -> "torch.device":
    """The device of that name; None for CUDA where there is one, else the CPU.

    Raises:
        Misuse: there is no such device.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise Misuse(f"--device {name}: no kind of device that torch knows", "--device cpu") from None
    if device.type not in ("cpu", "cuda"):
        raise Misuse(f"--device {name}: fca computes on cpu and cuda devices", "--device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Misuse(f"--device {name}: {torch.cuda.device_count()} CUDA devices here", "--device cpu")
    return device
