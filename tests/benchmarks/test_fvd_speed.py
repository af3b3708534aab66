"""FVD beside the usual code for it: the same preset, weights and clips, on the same two threads, in turn clip by clip.

Run with -m benchmark -s. Weights and pixels are random; neither time depends on them.
"""

import math
import statistics
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference.plain_i3d import plain_logits, random_weights
from reference.published_fvd import by_symmetric_svd

from fcacli.evaluation.frechet import frechet_of_moments
from fcacli.evaluation.fvd import PRESETS, I3DFeatures

CLIPS, THREADS = 64, 2


@pytest.mark.benchmark
def test_trace_term_is_four_times_as_fast_as_sqrtm():
    import scipy.linalg

    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    c1, c2 = (np.cov((rng.standard_normal((2048, 400)) @ rng.standard_normal((400, 400))).T) for _ in range(2))
    zero = np.zeros(400)
    usual, ours, ratios = [], [], []
    for _ in range(15):
        start = time.process_time()
        trace = np.trace(scipy.linalg.sqrtm(c1 @ c2).real)
        usual.append(time.process_time() - start)
        start = time.process_time()
        distance = frechet_of_moments(zero, c1, zero, c2)
        ours.append(time.process_time() - start)
        ratios.append(usual[-1] / ours[-1])
    took = f"{1e3 * min(ours):.1f} ms, sqrtm {1e3 * min(usual):.1f} ms"
    print(f"\n400-d: {took}, paired ratio {statistics.median(ratios):.1f}")
    assert distance == pytest.approx(np.trace(c1 + c2) - 2 * trace, rel=1e-9)
    assert statistics.median(ratios) >= 4


def usual_frames(video: np.ndarray) -> torch.Tensor:
    """uint8 (T, H, W, 3) -> (1, 3, T, 224, 224): short side to 224, centre crop."""
    x = torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255
    scale = 224 / min(x.shape[2:])
    size = (math.ceil(x.shape[2] * scale), math.ceil(x.shape[3] * scale))
    x = F.interpolate(x, size, mode="bilinear", align_corners=False)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    return (x[:, :, top : top + 224, left : left + 224].transpose(0, 1) * 2 - 1)[None]


@pytest.mark.benchmark
def test_whole_run_is_one_and_a_half_times_as_fast_as_the_usual_code(tmp_path):
    """Predictions and truth of 64 clips of 16x256x256, decoded; the resize, the network, the distance."""
    torch.set_num_threads(THREADS)
    state, preset = random_weights(), PRESETS["videogpt"]
    torch.save(state, tmp_path / "i3d.pt")
    extract = {name: I3DFeatures(tmp_path / "i3d.pt", preset, arithmetic=name) for name in ("exact", "folded")}

    def usual(video: np.ndarray) -> np.ndarray:
        return plain_logits(state, usual_frames(video), preset.eps).numpy()

    ways = {"usual": usual, **{name: lambda video, f=f: f([video]) for name, f in extract.items()}}
    cpu, wall = ({name: [] for name in ways} for _ in range(2))
    rows = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for n in range(-1, 2 * CLIPS):  # the first warms up
        video = rng.integers(0, 256, (16, 256, 256, 3), np.uint8) // (1 + n % 2)
        for name in list(ways)[n % 3 :] + list(ways)[: n % 3]:
            start, started = time.process_time(), time.perf_counter()
            found = ways[name](video)
            if n >= 0:
                cpu[name].append(time.process_time() - start)
                wall[name].append(time.perf_counter() - started)
                rows[name].append(found)
    distances = {}
    for name in ways:
        x, y = np.concatenate(rows[name][0::2]), np.concatenate(rows[name][1::2])
        start, started = time.process_time(), time.perf_counter()
        distances[name] = by_symmetric_svd(x, y, np.float32) if name == "usual" else preset.distance(x, y)
        cpu[name].append(time.process_time() - start)
        wall[name].append(time.perf_counter() - started)
    print(f"\n{2 * CLIPS} clips of 16x256x256, {THREADS} threads: seconds of CPU, of wall time, FVD")
    for name in ways:
        print(f"  {name}: {sum(cpu[name]):.1f}  {sum(wall[name]):.1f}  {distances[name]:.6f}")
    ratios = {name: statistics.median(np.array(cpu["usual"]) / np.array(cpu[name])) for name in extract}
    print(f"  the usual code takes, paired, {ratios['exact']:.2f} of exact's time and {ratios['folded']:.2f} of folded's")
    x, y = (np.concatenate(rows["usual"][at::2]).astype(np.float64) for at in (0, 1))
    assert distances["folded"] == pytest.approx(preset.distance(x, y), rel=1e-4)
    assert distances["folded"] == pytest.approx(distances["exact"], rel=1e-4)
    assert sum(cpu["usual"]) / sum(cpu["folded"]) >= 1.5
