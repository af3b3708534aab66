"""Small raw videos and datasets for tests: synthetic twins of what users download."""

import json
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np


def moving_square(frames: int = 18, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """uint8 (T, H, W, 3): a bright square on a smooth background, one step to the right with each frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    video = np.stack([np.stack([x * 2, y * 3, (x + y)], axis=-1).clip(0, 200).astype(np.uint8)] * frames)
    colour, top = rng.integers(60, 256, 3), int(rng.integers(2, height - 14))
    for index in range(frames):
        left = 2 + index * (width - 14) // frames
        video[index, top : top + 10, left : left + 10] = colour
    return video


def write_video(path: Path, frames: np.ndarray, times: list[float] | None = None, fps: int = 12) -> Path:
    """WebM in VP9, anything else in H.264; time stamps in milliseconds as the real WebM files have them."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    webm = path.suffix == ".webm"
    options = {"crf": "10", "b": "0", "cpu-used": "8", "deadline": "realtime"} if webm else {"crf": "5", "bf": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9" if webm else "libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = round(1000 * (index / fps if times is None else times[index]))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """Keep the first part of a file, as an interrupted download does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Set the display matrix of an MP4's track: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def write_ssv2(root: Path, labels: dict[str, list[tuple[str, str]]], frames: int = 18, width: int = 64) -> Path:
    """Something-Something's layout: `labels` has (id, prompt) for "train", "validation"; each id gets a WebM."""
    for split, rows in labels.items():
        entries = [{"id": id, "label": text, "template": text, "placeholders": []} for id, text in rows]
        path = root / "labels" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries))
        for id, _ in rows:
            video = moving_square(frames, width=width, seed=sum(map(ord, id)))
            write_video(root / "20bn-something-something-v2" / f"{id}.webm", video)
    return root


def write_prepared(root: Path, clips: dict[str, list[tuple[str, str, int]]]) -> dict[str, list]:
    """A prepared dataset without `fca prepare`: of each split (id, caption, frames); returns its rows."""
    import hashlib

    from fcacli.data.decode import decode
    from fcacli.data.manifest import Clip, write_split

    rows: dict[str, list] = {}
    for split, wanted in clips.items():
        rows[split] = []
        for id, text, frames in wanted:
            path = root / split / "videos" / f"{id}.mp4"
            if not path.exists():
                write_video(path, moving_square(frames, seed=sum(map(ord, id))))
            decoded = decode(path)
            times, content = [time - decoded.times[0] for time in decoded.times], hashlib.sha256(decoded.frames.tobytes())
            rows[split].append(Clip(f"videos/{id}.mp4", text, "raw", frames, 64, 48, times, content.hexdigest()))
        write_split(root, split, rows[split])
    (root / "dataset.json").write_text('{"name": "made"}')
    return rows
