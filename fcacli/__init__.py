"""fca: text-video prediction by Frame-wise Conditioning Adaptation (FCA) of text-to-video diffusion transformers."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_adapter"]


def __getattr__(name: str) -> Any:
    """`fcacli.load_adapter`, loaded when asked for: importing fcacli loads nothing heavy."""
    if name == "load_adapter":
        from fcacli.model.attach import load_adapter

        return load_adapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
