"""Pictures -> upright RGB frames, uint8 (H, W, 3). Pillow reads them; a header that claims too much is refused unread."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fcacli.errors import FcaError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
"""Pillow's names of what is read; its other readers (some start programs) are not asked."""
LARGEST_PICTURE = 2**26
"""Pixels of a picture, by its header; more would fill the memory."""


class Unreadable(FcaError):
    """A video or picture that cannot be decoded, or not as a whole; `reason` says why without the path."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"cannot read {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return Unreadable, (self.path, self.reason)


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W, 3) RGB, its EXIF orientation applied, transparency left out.

    Raises:
        Unreadable: it is missing, damaged, cut short, too large, or not a picture that is known here.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None


def decode_image(data: bytes, where: Path) -> np.ndarray:
    """`read_image` of the bytes of a picture that lies in the file `where`."""
    return _read(BytesIO(data), where)


def _read(file: IO[bytes], path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not file.read(1):
                raise Unreadable(path, "the file is empty")
            file.seek(0)
            with Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    raise Unreadable(path, too_large(picture.width, picture.height, LARGEST_PICTURE))
                with _silent_library() if picture.format == "TIFF" else nullcontext():
                    return _upright_rgb(picture)
    except Unreadable:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise Unreadable(path, f"it is not a picture that can be read here ({', '.join(FORMATS)})") from None
    except OSError as error:
        raise Unreadable(path, error.strerror or f"the picture is damaged: {error}") from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise Unreadable(path, f"the picture is damaged: {error}") from None


def too_large(width: int, height: int, most: int) -> str:
    """Why frames of this size are not read."""
    return f"{width}x{height} pixels are more than the {most / 1e6:.0f} million that are read"


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, in natural order: im_2 before im_10."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."), key=natural)


def natural(path: Path) -> list[str | int]:
    """Sort key that reads runs of digits as numbers."""
    pieces = re.split(r"([0-9]+)", path.name.lower())
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)]


@contextmanager
def _silent_library() -> Iterator[None]:
    """libtiff writes its complaints to the process's standard error, past Python; here they come as exceptions."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _upright_rgb(picture: "Image") -> np.ndarray:
    from PIL import ImageOps

    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # grey, 16 bits: Pillow would clip them at 255
        grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))
