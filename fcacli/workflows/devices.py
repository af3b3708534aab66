"""Which device training runs on, and what it computes in."""

from fcacli.errors import Misuse


def choose_gpus(gpus: int | None) -> str:
    """ "cuda" or "cpu" for `--gpus`: 0 the CPU, 1 a CUDA device, None a CUDA device where there is one.

    Raises:
        Misuse: more than are there, or more than one.
    """
    if gpus == 0:
        return "cpu"
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus is None:
        return "cuda" if there else "cpu"
    if gpus < 0:
        raise Misuse(f"--gpus must be 0 or more, got {gpus}", "fca train --gpus 0")
    if gpus > there:
        found = "no CUDA device is" if there == 0 else f"only {there} CUDA device{'s are' if there > 1 else ' is'}"
        raise Misuse(f"--gpus {gpus}, but {found} available here", f"fca train --gpus {min(there, 1)}")
    if gpus > 1:
        raise Misuse(f"--gpus {gpus}: training runs on one device so far", "fca train --gpus 1")
    return "cuda"


def computes_bf16(device: str) -> bool:
    """Whether bfloat16 is arithmetic of the device's own there, not emulated."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
