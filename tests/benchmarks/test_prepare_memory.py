"""The memory of `fca prepare` does not grow with the dataset; run with -m benchmark (a quarter of an hour)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import resource, sys, time
from pathlib import Path
from fcacli.workflows.prepare import prepare
from fcacli.workspace import Workspace

if __name__ == "__main__":
    start = time.perf_counter()
    result = prepare("folder", Path(sys.argv[1]), Workspace(Path(sys.argv[2])), name="d", workers=2, min_frames=2)
    own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(own, workers, result.made, result.reused, time.perf_counter() - start)
"""


def write_clips(root: Path, count: int) -> Path:
    """`count` videos of two frames, each with contents of its own: one uncompressed AVI with other pixels patched in."""
    import av

    root.mkdir(parents=True)
    pattern = np.full((16, 16, 3), 77, np.uint8)
    with av.open(str(root / "0.avi"), "w") as container:
        stream = container.add_stream("rawvideo", rate=12)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr24"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pattern, format="bgr24")))
        container.mux(stream.encode(None))
    template = (root / "0.avi").read_bytes()
    places = [place for place in range(len(template)) if template.startswith(pattern.tobytes(), place)]
    assert len(places) == 2
    with (root / "metadata.jsonl").open("w") as rows:
        for number in range(count):
            data, pixels = bytearray(template), np.random.default_rng(number).integers(0, 256, pattern.size, dtype=np.uint8)
            for place in places:
                data[place : place + pattern.size] = pixels.tobytes()
            folder = root / f"{number // 1000:03}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.avi").write_bytes(data)
            rows.write(json.dumps({"file_name": f"{folder.name}/{number}.avi", "text": f"caption {number}"}) + "\n")
    return root


def peak(raw: Path, space: Path) -> list[float]:
    """Peak kB of the process and of its largest worker, clips made and reused, seconds."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    script = space / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(raw), str(space)], capture_output=True, text=True, env=environment, check=True
    )
    return [float(value) for value in done.stdout.split()]


@pytest.mark.benchmark
def test_a_hundred_thousand_clips_take_the_memory_of_a_thousand(tmp_path):
    found = {}
    for count in (1_000, 100_000):
        raw = write_clips(tmp_path / "raw", count)
        first, again = peak(raw, tmp_path), peak(raw, tmp_path)
        assert (first[2], again[2], again[3]) == (count, 0, count)
        found[count] = (*first[:2], again[0])
        print(
            f"\n{count:,} clips: peak {first[0] / 1000:.0f} MB, its workers {first[1] / 1000:.0f} MB, in {first[4]:.0f} s; "
            f"again, with nothing to do: {again[0] / 1000:.0f} MB, {again[4]:.1f} s"
        )
        shutil.rmtree(tmp_path / "raw")
        shutil.rmtree(tmp_path / "data")
    for small, large in zip(found[1_000], found[100_000], strict=True):
        assert large <= 1.1 * small
