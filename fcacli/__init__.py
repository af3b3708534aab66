"""fca: text-video prediction by Frame-wise Conditioning Adaptation (FCA) of text-to-video diffusion transformers."""

__version__ = "0.1.0"
