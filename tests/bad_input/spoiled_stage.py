"""A stage with one of everything that is right: a base, a run, raw datasets, prepared data, frames. Tests spoil copies."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflows"))

GOOD = {"11": "pushing cup left", "12": "lifting box up", "13": "turning pen over"}
"""The good clips of every raw dataset: id -> caption. 13 is held out."""


@dataclass(frozen=True)
class Stage:
    """Folders; a test takes a copy with `fresh` and works in it."""

    root: Path
    base: Path

    def fresh(self, name: str, place: Path | None = None) -> Path:
        """A new copy of the folder `name`, always at the same place: a prepared dataset knows its raw folder's path."""
        place = place or self.root / "now"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.root / "templates" / name, place)
        return place


@pytest.fixture(scope="session")
def stage(tmp_path_factory, tiny_base_folder) -> Stage:
    from trained_run import make_workspace, source_video
    from typer.testing import CliRunner

    from fcacli.cli.app import app
    from fcacli.prediction.video import write_gif, write_mp4, write_png

    stage = Stage(tmp_path_factory.mktemp("stage"), tiny_base_folder)
    templates, now, before = stage.root / "templates", stage.root / "now", Path.cwd()

    def run(*arguments: object) -> None:
        outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert outcome.exit_code == 0, outcome.output

    def keep(name: str) -> None:
        os.chdir(before)
        shutil.copytree(now, templates / name)
        shutil.rmtree(now)

    try:
        make_workspace(now, tiny_base_folder)
        os.chdir(now)
        frames = source_video(1)
        write_mp4(now / "given.mp4", frames, 12)
        write_gif(now / "given.gif", frames, 12)
        for number, frame in enumerate(frames[:4]):
            write_png(now / "frames" / f"{number}.png", frame)
        run("eval", "--split", "val")
        keep("run")
        write_raw_ssv2(now / "raw")
        os.chdir(now)
        run("prepare", "ssv2", "raw", "--workers", 1)
        keep("ssv2")
        write_raw_folder(now / "raw")
        os.chdir(now)
        run("prepare", "folder", "raw", "--workers", 1)
        keep("folder")
    finally:
        os.chdir(before)
    return stage


def write_raw_ssv2(root: Path) -> None:
    """Something-Something's layout with the good clips."""
    from raw_videos import moving_square, write_video

    for id in GOOD:
        write_video(root / "20bn-something-something-v2" / f"{id}.webm", moving_square(seed=int(id)))
    write_labels(root, [{"id": id, "label": text} for id, text in GOOD.items() if id != "13"])
    (root / "labels" / "validation.json").write_text(json.dumps([{"id": "13", "label": GOOD["13"]}]))


def write_labels(root: Path, rows: list[object]) -> None:
    path = root / "labels" / "train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows))


def write_raw_folder(root: Path) -> None:
    """A folder with metadata.jsonl and the good clips, 13 below val/."""
    from raw_videos import moving_square, write_video

    rows = []
    for id, text in GOOD.items():
        name = f"{'val' if id == '13' else 'train'}/{id}.mp4"
        write_video(root / name, moving_square(seed=int(id)))
        rows.append(json.dumps({"file_name": name, "text": text}))
    (root / "metadata.jsonl").write_text("\n".join(rows) + "\n")
