"""The toy dataset is Something-Something V2 on disk."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.mini.toy import write_toy_dataset
from fcacli.mini.world import sample_clip


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy") / "raw"
    seen = []
    counts = write_toy_dataset(out, 10, seed=4, held_out=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 10) for i in range(10)]
    return out, counts


def read(path):
    return json.loads(path.read_text())


def test_label_files_have_ssv2_rows(toy):
    out, counts = toy
    assert counts == {"train": 7, "validation": 2, "test": 1}
    numbers = read(out / "labels" / "labels.json")
    for split in ("train", "validation"):
        rows = read(out / "labels" / f"{split}.json")
        assert len(rows) == counts[split]
        for row in rows:
            assert set(row) == {"id", "label", "template", "placeholders"}
            assert row["template"].replace("[something]", row["placeholders"][0]).lower() == row["label"]
            assert row["template"].replace("[", "").replace("]", "") in numbers
            assert (out / "20bn-something-something-v2" / f"{row['id']}.webm").is_file()
    assert all(set(row) == {"id"} for row in read(out / "labels" / "test.json"))


def test_videos_are_vp9_with_sixteen_frames_at_twelve_fps(toy):
    out, _ = toy
    for path in (out / "20bn-something-something-v2").iterdir():
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate) == ("vp9", 12)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 16
        clip = sample_clip(4, int(path.stem) - 1, "adapt")
        error = ((np.stack(frames).astype(float) - clip.video(96)) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 32


def test_truth_holds_the_exact_paths_of_every_clip(toy):
    out, _ = toy
    rows = [json.loads(line) for line in (out / "truth.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 10
    for row in rows:
        clip = sample_clip(row["seed"], row["index"], row["domain"])
        assert clip.caption == row["caption"]
        assert np.abs(clip.paths().things - np.array(row["things"])).max() < 1e-3


def test_finished_output_is_never_overwritten(toy):
    with pytest.raises(FcaError, match="already holds a finished"):
        write_toy_dataset(toy[0], 10, seed=4, held_out=2)


def test_interrupted_run_continues_to_the_same_files(tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_toy_dataset(tmp_path / "a", 6, seed=8, size=48, progress=stop)
    with pytest.raises(FcaError, match="other settings"):
        write_toy_dataset(tmp_path / "a", 6, seed=9, size=48)
    write_toy_dataset(tmp_path / "a", 6, seed=8, size=48)
    write_toy_dataset(tmp_path / "b", 6, seed=8, size=48)
    for name in ("labels/train.json", "truth.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_more_clips_keep_the_first_ones(tmp_path):
    for name, clips in (("few", 5), ("many", 8)):
        write_toy_dataset(tmp_path / name, clips, seed=8, size=16)
    few, many = (read(tmp_path / name / "labels" / "train.json") for name in ("few", "many"))
    assert many[: len(few)] == few
