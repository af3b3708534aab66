"""`fca prepare` against a bare decode-resize-encode loop of the same libraries on as many processes; run with -m benchmark."""

import multiprocessing
import os
import resource
import shutil
import time
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from raw_videos import write_video

from fcacli.data.sampling import Form
from fcacli.data.transcode import ENCODER
from fcacli.workflows.prepare import prepare
from fcacli.workspace import Workspace

CLIPS, FRAMES, WIDTH, HEIGHT, SIDE = 16, 45, 427, 240, 256
ROUNDS = 3
WORKERS = 2


def bare(paths: tuple[Path, Path]) -> None:
    """What cannot be left out: decode, to RGB, cut and resize, encode."""
    import av
    import cv2
    from av.video.reformatter import VideoReformatter

    cv2.setNumThreads(1)
    to_rgb, to_yuv = VideoReformatter(), VideoReformatter()  # on one thread, as there is a process for each core
    source, target = paths
    with av.open(str(source)) as container, av.open(str(target), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=12, options=dict(ENCODER))
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv444p"
        stream.codec_context.thread_count = 1
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            picture = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
            left = (picture.shape[1] - picture.shape[0]) // 2
            square = np.ascontiguousarray(picture[:, left : left + picture.shape[0]])
            square = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            coded = to_yuv.reformat(av.VideoFrame.from_ndarray(square, format="rgb24"), format="yuv444p", threads=1)
            coded.pts, coded.time_base = number, Fraction(1, 12)
            out.mux(stream.encode(coded))
        out.mux(stream.encode(None))


def textured(seed: int) -> np.ndarray:
    """uint8 (T, H, W, 3): smooth noise that wanders, about as hard to encode as a real clip."""
    import cv2

    rng = np.random.default_rng(seed)
    wide = cv2.resize(
        rng.integers(0, 256, (40, 80, 3), dtype=np.uint8), (WIDTH + FRAMES, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    noise = rng.integers(0, 12, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return np.stack([(wide[:, n : n + WIDTH] // 2 + noise) for n in range(FRAMES)])


def processor_time() -> float:
    """Seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.mark.benchmark
def test_prepare_takes_at_least_85_percent_of_the_bare_loops_clips(tmp_path):
    """In turn, so that both see the same machine; by processor time, as others may use the machine too."""
    raw = tmp_path / "raw"
    for index in range(CLIPS):
        write_video(raw / f"{index}.webm", textured(index))
        (raw / f"{index}.txt").write_text(f"caption {index}")
    walls: dict[str, list[float]] = {"bare": [], "prepare": []}
    times: dict[str, list[float]] = {"bare": [], "prepare": []}
    for _ in range(ROUNDS):
        for name in walls:
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            (tmp_path / "out").mkdir()
            wall, used = time.perf_counter(), processor_time()
            if name == "bare":
                jobs = [(raw / f"{index}.webm", tmp_path / "out" / f"{index}.mp4") for index in range(CLIPS)]
                with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
                    pool.map(bare, jobs, chunksize=1)
                    pool.close()
                    pool.join()
            else:
                form = Form(width=SIDE, height=SIDE)
                made = prepare("folder", raw, Workspace(tmp_path / "out"), form=form, workers=WORKERS).made
                assert made == CLIPS
            walls[name].append(time.perf_counter() - wall)
            times[name].append(processor_time() - used)
    share = median(a / b for a, b in zip(times["bare"], times["prepare"], strict=True))
    clock = median(a / b for a, b in zip(walls["bare"], walls["prepare"], strict=True))
    each = {name: 1000 * median(values) / CLIPS for name, values in times.items()}
    print(
        f"\n{CLIPS} clips of {FRAMES} frames {WIDTH}x{HEIGHT} to {SIDE}x{SIDE}, {WORKERS} processes, {os.cpu_count()} cores: "
        f"bare {each['bare']:.0f} ms of processor time a clip, prepare {each['prepare']:.0f} ms: {share:.0%} of the clips/s "
        f"(by the clock {clock:.0%}, {CLIPS / median(walls['prepare']):.1f} clips/s)"
    )
    assert share >= 0.85
