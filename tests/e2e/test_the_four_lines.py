"""The four lines of the README as real processes, in an empty folder, on the bundled base on the CPU.

Once as `python -m fcacli`, four new interpreters; once forked, as in the other tests here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fixtures_path import fixture

SHORT = ["--base", "mini", "--steps", "2", "--batch-size", "2", "--sample-steps", "2", "--validate-clips", "1"]


def fca(folder: Path, *arguments: object) -> str:
    """Run `fca` in `folder` as a process of its own; its standard output."""
    words = [sys.executable, "-m", "fcacli", *map(str, arguments)]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def walk(fca: Callable[..., object], folder: Path, text: str) -> tuple[dict, dict]:
    """prepare, train, predict and eval, each finding what the one before left; what predict and eval noted."""
    fca(folder, "prepare", "ssv2", "./raw")
    fca(folder, "train", "--gpus", "0", *SHORT)
    video = next((folder / "data" / "ssv2" / "val" / "videos").glob("*.mp4"))
    fca(folder, "predict", video, text)
    fca(folder, "eval")
    notes = next((folder / "predictions").glob("*/prediction.json"))
    results = next((folder / "runs").glob("*/eval/*/results.json"))
    return json.loads(notes.read_text(encoding="utf-8")), json.loads(results.read_text(encoding="utf-8"))


def test_raw_videos_become_a_scored_prediction(tmp_path):
    fca(tmp_path, "toy", "raw", "--clips", 8, "--seed", 1)
    prediction, results = walk(fca, tmp_path, "pushing red cup left")
    assert prediction["made_by"]["text"] == "pushing red cup left"
    frames = next((tmp_path / "predictions").glob("*/frames"))
    assert len(list(frames.glob("*.png"))) == 16
    assert [row["name"] for row in results["rows"]] == ["fca, step 2", "base, text only", "copy last frame"]


def test_real_something_something_goes_through_all_four(server, tmp_path):
    (tmp_path / "raw").symlink_to(fixture("ssv2").resolve())
    prediction, results = walk(server.run, tmp_path, "pushing cup left")
    assert prediction["made_by"]["text"] == "pushing cup left"
    assert results["names"] == ["166766"]
