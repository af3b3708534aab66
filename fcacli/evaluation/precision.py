"""How the networks behind metrics are run: no gradients, whole float32 on a GPU too, the same kernels each time."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exactly() -> Iterator[None]:
    """Run what is inside for its numbers alone.

    cuDNN's convolutions default to TF32, 10 bits of mantissa: features would differ from a CPU's in the third digit.
    """
    import torch

    with torch.inference_mode(), torch.backends.cudnn.flags(True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
