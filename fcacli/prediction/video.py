"""Frames to files: H.264 MP4, GIF, PNG. Frames are uint8 (T, H, W, 3), RGB, written as they are; see `enlarge`."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from fcacli.data.images import natural
from fcacli.errors import FcaError
from fcacli.workspace import atomic_file

VIEW_SIDE = 192
"""Pixels of the short side below which a video is enlarged for viewing."""

EXACT = 16
"""Colours of a GIF that are kept as they are."""


def view_factor(width: int, height: int) -> int:
    """The smallest whole factor that brings the short side to VIEW_SIDE; 1 for anything already that large."""
    return max(1, -(-VIEW_SIDE // min(width, height)))


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel `factor` times each way: (T, H, W, 3) -> (T, H*factor, W*factor, 3)."""
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


X264 = {"preset": "medium", "x264-params": "mbtree=0"}
"""Without the macroblock tree: with it, on CPUs with AVX-512, equal frames give unequal files (60 times 48x40: five)."""


def write_mp4(path: Path, frames: np.ndarray, fps: float, crf: int = 12) -> None:
    """Write an H.264 MP4, yuv420p, BT.709, that plays everywhere; an odd width or height gains one repeated line of pixels.

    Args:
        crf: x264's quality; 12 is visually lossless, lower is larger.

    Raises:
        FcaError: the file cannot be written.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

    _check(frames)
    reformatter = VideoReformatter()  # PyAV's own has threads, which a fork of the process does not
    height, width = frames.shape[1:3]
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rate = Fraction(fps).limit_denominator(30_000)
    with atomic_file(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), **X264})
                stream.height, stream.width = frames.shape[1:3]
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.colorspace = Colorspace.ITU709
                context.color_range = ColorRange.MPEG
                context.color_primaries = context.color_trc = 1  # BT.709
                for pixels in frames:
                    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                    kind = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
                    yuv = reformatter.reformat(rgb, format="yuv420p", **kind)
                    container.mux(stream.encode(yuv))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise FcaError(f"cannot write {path}: {error}", "is the disk full or the folder read-only?") from error


def write_gif(path: Path, frames: np.ndarray, fps: float, hold: float = 1.0) -> None:
    """Write an endless GIF with one palette for all frames, so that what rests does not flicker.

    Args:
        hold: seconds that the last frame stays before the loop starts again.
    """
    from PIL import Image

    _check(frames)
    indices, palette = _indexed(frames)
    pictures = [Image.fromarray(pixels) for pixels in indices]
    for picture in pictures:
        picture.putpalette(palette)
    ticks = [round(t * 100 / fps) for t in range(len(frames) + 1)]  # hundredths of a second, GIF's unit
    durations = [10 * max(2, after - before) for before, after in pairwise(ticks)]
    durations[-1] += round(hold * 1000)
    with atomic_file(path) as temporary:
        pictures[0].save(
            temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
        )


def _indexed(frames: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Frames (T, H, W, 3) as palette indices uint8 (T, H, W) and at most 256 colours.

    The most frequent colours are kept exactly (paper, ink); the rest is a median cut over all colours that occur.
    """
    from PIL import Image

    red, green, blue = (frames[..., channel].astype(np.uint32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    counts = np.bincount(packed.ravel(), minlength=1 << 24)
    colours = np.flatnonzero(counts)  # (U,)
    strip = Image.fromarray(_unpacked(colours)[None])
    few = strip.resize((min(strip.width, 1 << 15), 1), Image.Resampling.NEAREST)
    cut = few.quantize(colors=256 - EXACT, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE).getpalette()
    frequent = colours[np.argsort(-counts[colours], kind="stable")[:EXACT]]
    palette = [*_unpacked(frequent).ravel().tolist(), *(cut or [])]
    holder = Image.new("P", (1, 1))
    holder.putpalette(palette)
    nearest = np.zeros(1 << 24, np.uint8)
    nearest[colours] = np.asarray(strip.quantize(palette=holder, dither=Image.Dither.NONE))[0]
    nearest[frequent] = np.arange(len(frequent), dtype=np.uint8)
    return nearest[packed], palette


def _unpacked(colours: np.ndarray) -> np.ndarray:
    """0xRRGGBB (U,) -> uint8 (U, 3)."""
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write one uint8 (H, W, 3) RGB picture, lossless."""
    import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise FcaError(f"cannot write {path}: OpenCV could not encode a picture of shape {picture.shape}")
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def write_pngs(folder: Path, frames: np.ndarray) -> list[Path]:
    """Write folder/000.png, 001.png, ... and return the paths; beyond 1,000 frames all numbers are wider."""
    _check(frames)
    digits = max(3, len(str(len(frames) - 1)))
    paths = [folder / f"{t:0{digits}d}.png" for t in range(len(frames))]
    for path, pixels in zip(paths, frames, strict=True):
        write_png(path, pixels)
    return paths


def read_pngs(folder: Path) -> np.ndarray:
    """Read what `write_pngs` wrote, exactly, in the order of the numbers: uint8 (T, H, W, 3).

    Raises:
        FcaError: no frame there, one is unreadable, or sizes differ.
    """
    import cv2

    frames: list[np.ndarray] = []
    for path in sorted(folder.glob("*.png"), key=natural):
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None or (frames and bgr.shape != frames[0].shape):
            raise FcaError(f"{path} is not a readable frame of its clip", f"remove {folder} and run again")
        frames.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    if not frames:
        raise FcaError(f"no frames in {folder}", f"remove {folder} and run again")
    return np.stack(frames)


def _check(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"expected uint8 (T, H, W, 3) frames, got {frames.dtype} {frames.shape}")
