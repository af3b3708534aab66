"""A toy dataset in the on-disk layout of Something-Something V2, so that it goes through the real reader.

OUT/20bn-something-something-v2/<id>.webm   VP9, 12 fps
OUT/labels/{train,validation,test,labels}.json
OUT/truth.jsonl                             exact paths of every object, per clip (SSv2 has no such file)
OUT/toy.json                                the settings it was made with
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from fcacli.errors import FcaError
from fcacli.mini.scene import Domain, Verb, actions
from fcacli.mini.world import ALL_VERBS, MOST_OTHERS, Clip, sample_clip

VIDEOS = "20bn-something-something-v2"
FPS = 12
SPLIT_START = {"train": 0, "validation": 1_000_000, "test": 2_000_000}
"""First clip index of each split: the same clip is never in two of them, whatever the counts."""
_VP9 = {"crf": "14", "b": "0", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}


@dataclass(frozen=True, kw_only=True)
class ToySettings:
    """What decides a toy dataset's content."""

    clips: int
    seed: int
    size: int
    frames: int
    held_out: int
    domain: Domain
    verbs: tuple[Verb, ...]
    others: int

    @property
    def counts(self) -> dict[str, int]:
        """Clips in each split; validation and test are taken off the total."""
        test = max(1, self.held_out // 4)
        return {"train": self.clips - self.held_out - test, "validation": self.held_out, "test": test}


def write_toy_dataset(
    out: Path,
    clips: int,
    seed: int,
    size: int = 96,
    held_out: int | None = None,
    domain: Domain = "adapt",
    frames: int = 16,
    verbs: tuple[Verb, ...] = ALL_VERBS,
    others: int = MOST_OTHERS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write `clips` clips, `size` pixels square; returns the number in each split.

    A clip's video and rows follow from (seed, index) alone. An interrupted run is continued; a finished one is left alone.

    Args:
        held_out: clips of the validation split; None for a tenth.
        verbs: what the hand does; drawn in the world's own proportions.
        others: most things beside the one that the caption names.
        progress: called with (clips done, clips in all).

    Raises:
        FcaError: `out` holds a finished or another dataset, or `clips` is too small for three splits.
    """
    settings = ToySettings(
        clips=clips,
        seed=seed,
        size=size,
        frames=frames,
        held_out=max(1, round(clips / 10)) if held_out is None else held_out,
        domain=domain,
        verbs=verbs,
        others=others,
    )
    out = Path(out)
    _claim(out, settings)
    truth: list[dict[str, Any]] = []
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLIT_START}

    def draw(split: str, index: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
        clip = sample_clip(seed, index, domain, verbs, others)
        video_id = str(index + 1)
        path = out / VIDEOS / f"{video_id}.webm"
        if not path.is_file():
            write_webm(path, clip.video(size, frames))
        return split, _row(video_id, clip, split), _truth(video_id, clip, split, index, settings)

    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="draw")
    try:
        for done, (split, row, true) in enumerate(pool.map(draw, *zip(*_indices(settings), strict=True))):
            rows[split].append(row)
            truth.append(true)
            if progress:
                progress(done + 1, clips)
    finally:
        pool.shutdown(cancel_futures=True)
    for split, some in rows.items():
        _write(out / "labels" / f"{split}.json", json.dumps(some, indent=0))
    _write(out / "labels" / "labels.json", json.dumps(_label_numbers(), indent=0))
    _write(out / "truth.jsonl", "".join(json.dumps(row) + "\n" for row in truth))
    return settings.counts


def write_webm(path: Path, video: np.ndarray) -> None:
    """uint8 (T, H, W, 3) -> a VP9 WebM at 12 fps; H and W must be even. Appears complete or not at all."""
    fresh = path.with_suffix(".part")
    with av.open(str(fresh), "w", format="webm") as container:
        stream = container.add_stream("libvpx-vp9", rate=FPS, options=_VP9)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    fresh.replace(path)


def _claim(out: Path, settings: ToySettings) -> None:
    """Make the folders and note the settings, or say why not."""
    if min(settings.counts.values()) < 1:
        raise FcaError(f"{settings.clips} clips are too few for train, validation and test", hint="ask for at least 4")
    if settings.size % 2 or settings.size < 16:
        raise FcaError(f"a picture size of {settings.size} cannot be encoded", hint="choose an even size from 16 on")
    wanted = json.dumps(asdict(settings)) + "\n"
    note = out / "toy.json"
    if (out / "truth.jsonl").is_file():
        raise FcaError(f"{out} already holds a finished toy dataset", hint="choose another folder, or remove this one")
    if note.is_file() and note.read_text() != wanted:
        raise FcaError(
            f"{out} holds an unfinished toy dataset with other settings: {note.read_text().strip()}",
            hint="repeat it with those settings, choose another folder, or remove this one",
        )
    if not note.is_file() and out.is_dir() and any(out.iterdir()):
        raise FcaError(f"{out} is not empty", hint="choose an empty or a new folder")
    for folder in (out / VIDEOS, out / "labels"):
        folder.mkdir(parents=True, exist_ok=True)
    _write(note, wanted)


def _indices(settings: ToySettings) -> Iterator[tuple[str, int]]:
    for split, count in settings.counts.items():
        for k in range(count):
            yield split, SPLIT_START[split] + k


def _row(video_id: str, clip: Clip, split: str) -> dict[str, Any]:
    """A row of SSv2's label files; test rows have no label."""
    if split == "test":
        return {"id": video_id}
    action = clip.action
    noun = f"{action.colour} {action.kind}"
    return {"id": video_id, "label": clip.caption, "template": action.template, "placeholders": [noun]}


def _label_numbers() -> dict[str, str]:
    """SSv2's labels.json: template without brackets -> class number."""
    templates = sorted({action.template.replace("[something]", "something") for action in actions("adapt")})
    return {template: str(number) for number, template in enumerate(templates)}


def _truth(video_id: str, clip: Clip, split: str, index: int, settings: ToySettings) -> dict[str, Any]:
    """Scene and exact paths, in pixels of a 48x48 picture."""
    paths = clip.paths(settings.frames)
    return {
        "id": video_id,
        "split": split,
        "seed": settings.seed,
        "index": index,
        "domain": settings.domain,
        "caption": clip.caption,
        "scene": clip.scene.to_json(),
        "things": paths.things.round(3).tolist(),
        "hand": paths.hand.round(3).tolist(),
        "cloth": None if paths.cloth is None else paths.cloth.round(3).tolist(),
    }


def _write(path: Path, text: str) -> None:
    """Atomically."""
    fresh = path.with_suffix(path.suffix + ".part")
    fresh.write_text(text)
    fresh.replace(path)
