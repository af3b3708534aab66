"""Videos stored as NumPy arrays: .npy, and .npz with one array; uint8 (T, H, W, 3), nothing else.

What a header claims is compared with the file before memory is taken, and no pickle is ever read.
"""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from fcacli.data.images import Unreadable

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
SCALED = "np.rint(255 * x).clip(0, 255).astype(np.uint8)"


def read_array(path: Path, most_pixels: int) -> np.ndarray:
    """The video in a file: uint8 (T, H, W, 3), of at most so many pixels in all its frames.

    Raises:
        Unreadable: it is damaged or too long, holds something else, or values that are no bytes; none are truncated to them.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return _read(path, file, path.stat().st_size, most_pixels)
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if len(members) != 1:
                names = ", ".join(info.filename.removesuffix(".npy") for info in members) or "none"
                raise Unreadable(path, f"it should hold one array, it holds {len(members)}: {names}")
            with archive.open(members[0]) as file:
                return _read(path, file, members[0].file_size, most_pixels)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise Unreadable(path, str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from None


def _read(path: Path, file: IO[bytes], size: int, most_pixels: int) -> np.ndarray:
    """One array from an opened .npy of `size` bytes."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, transposed, kind = read_header(file)
    if kind != np.uint8:
        raise Unreadable(path, f"its values are {kind}, not bytes; write {SCALED} of x in [0, 1], so that nothing is cut off")
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        raise Unreadable(path, f"its shape is {shape}; a video is (T, H, W, 3), RGB")
    count = int(np.prod([int(side) for side in shape], dtype=object))
    if size - file.tell() != count:
        raise Unreadable(path, f"its header says {count} bytes, {size - file.tell()} are there")
    if count > 3 * most_pixels:
        raise Unreadable(path, f"{shape[0]} frames of {shape[2]}x{shape[1]} are more than is scored at once")
    values = np.frombuffer(file.read(count), np.uint8)
    if len(values) != count:
        raise Unreadable(path, f"its header says {count} bytes, {len(values)} are there")
    return values.reshape(shape[::-1]).T if transposed else values.reshape(shape)
