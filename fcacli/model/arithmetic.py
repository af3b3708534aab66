"""What a device computes in, and how."""

import os


def computes_bf16(device: str) -> bool:
    """Whether bfloat16 is arithmetic of the device's own there, not emulated, which is ten times slower than float32."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def repeatable_libraries() -> None:
    """Let cuBLAS have a workspace of fixed size and cuDNN take deterministic kernels, with which matrix products and
    convolutions have the same bits each time.

    To be called before the first product of the process; a size that is set already stays.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
