"""Size of report.html and what it takes to write, for what the page is meant for; run with -m benchmark -s."""

import time

import cv2
import numpy as np
import pytest

from fcacli.evaluation.page import PageClip, write_page

CLIPS, FRAMES, GIVEN, SIDE = 64, 16, 2, 256
ROWS = ["fca", "base", "copy last frame", "lora", "pipeline"]


def scene(seed: int) -> np.ndarray:
    """Soft texture with grain that moves as a whole: uint8 (FRAMES, SIDE, SIDE, 3)."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(0, 255, (40, 40, 3)), (SIDE + 64, SIDE + 64), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(coarse + rng.normal(0, 4, coarse.shape), 0, 255).astype(np.uint8)
    return np.stack([picture[2 * t : 2 * t + SIDE, 3 * t : 3 * t + SIDE] for t in range(FRAMES)])


def clips():
    for number in range(CLIPS):
        truth = scene(number)
        videos = {"truth": truth}
        for place, row in enumerate(ROWS):
            made = scene(1000 * place + number)
            made[: 0 if row == "base" else GIVEN] = truth[: 0 if row == "base" else GIVEN]
            videos[row] = made if row != "copy last frame" else truth[[0, *[1] * (FRAMES - 1)]]
        yield PageClip(f"clip{number}", f"caption {number}", videos, {})


@pytest.mark.benchmark
def test_a_page_of_64_clips_stays_under_30_mb(tmp_path):
    metric = {"value": 1.0, "title": "PSNR", "unit": "dB", "better": "higher", "digits": 2, "per_clip": [1.0] * CLIPS}
    names = [f"clip{i}" for i in range(CLIPS)]
    rows = [{"name": name, "metrics": {"psnr": metric}} for name in ROWS]
    results = {"kind": "run", "clips": CLIPS, "names": names, "metrics": {"psnr": metric}, "rows": rows, "conditions": {}}
    start = time.process_time()
    write_page(tmp_path / "report.html", results, clips(), given=GIVEN, fps=8)
    size = (tmp_path / "report.html").stat().st_size
    print(f"{size / 1e6:.1f} MB in {time.process_time() - start:.0f} s of one core")
    assert size < 30e6
