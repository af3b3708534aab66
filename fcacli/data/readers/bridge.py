"""BridgeData: raw trees, RLDS (TFRecord) or, where pickles are trusted, NumPy files; the first that is there.

.../<scene>/<task>/.../raw/traj_group*/traj*/{images0/im_0.jpg, lang.txt}      any depth above traj_group
bridge_dataset/1.0.0/*-{train,val}.tfrecord-*                                  see rlds in this file
.../<task>/.../{train,val}/out.npy                                             pickled: only with --trust-pickle
rawframes/<task>/<number>/img_00001.jpg                                        as Seer extracts them

The prompt is the first line of lang.txt that is no "confidence: ...", else the task's folder as words. A missing camera of RLDS
is a run of black pictures (`has_image_*` is always 0), which the audit finds. No pickle is opened unasked.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fcacli.data.images import natural
from fcacli.data.manifest import Record, Split, first_of, is_text
from fcacli.data.readers.tables import lines
from fcacli.data.readers.tfrecord import Place, examples
from fcacli.data.source import Array, PictureBytes, Pictures
from fcacli.errors import FcaError

Note = Callable[[str], None]
FPS = 5.0
"""Of the robot's cameras."""
SHARD = re.compile(r".+-(train|val|validation|test)\.tfrecord(-\d{5})?(-of-\d{5})?")
SPLIT_OF: dict[str, Split] = {"train": "train", "val": "val", "validation": "val", "test": "test"}
PLAIN = re.compile(r"raw|train|val|\d+|\d{4}-\d\d-\d\d_[\d-]+|traj_group\d*")
"""Folders above a trajectory that do not name its task."""
SEER_IDS = "path_id_bridgedata.txt"
SEER_TRAIN = 0.8
"""Share of Seer's list that is train, from its beginning."""
NOTHING = "expected .../raw/traj_group*/traj*/images0, *.tfrecord-* or rawframes/<task>/<number>"
LONGEST_TEXT = 10_000
"""Bytes of an instruction."""


def read(
    root: Path, note: Note, *, camera: str | None = None, trust_pickle: bool = False, protocol: str = "ours"
) -> Iterator[Record]:
    """The trajectories below `root`, in natural order of their paths.

    With `protocol` "seer": its list of clips (80 % train), and the task's folder as the prompt.

    Raises:
        FcaError: there are none, or only pickled ones that are not trusted, or the camera is not there.
    """
    number = _number(camera)
    if (root / "rawframes").is_dir():
        return _seer_layout(root, protocol, note)
    if protocol == "seer":
        raise FcaError(f"Seer's list of clips names folders rawframes/<task>/<number>, which are not below {root}")
    kinds = _kinds(root)
    if "trajectory" in kinds:
        return _raw(root, number, note)
    if "shard" in kinds:
        return _rlds(root, number, note)
    if "numpy" in kinds:
        if not trust_pickle:
            raise FcaError(
                f"{root} holds BridgeData as NumPy files (out.npy), which are pickles and can run any program when loaded",
                "--trust-pickle loads them, if you trust where they come from; the raw or RLDS download needs no pickle",
            )
        return _numpy(root, number, note)
    raise FcaError(f"no trajectories below {root}", NOTHING)


def _number(camera: str | None) -> int:
    """Cameras are images0, images1, ... (raw), image_0, ... (RLDS), or just their number."""
    if camera is None:
        return 0
    if not (match := re.fullmatch(r"(?:images?_?)?(\d{1,2})", camera)):
        raise FcaError(f"there is no camera {camera!r}: BridgeData's are images0, images1, ...", "--camera images0")
    return int(match[1])


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders in natural order, without those of depth pictures and of databases."""
    for folder, below, names in os.walk(root):
        below[:] = sorted((name for name in below if not _is_ignored(name)), key=lambda name: natural(Path(name)))
        yield folder, below, sorted(names, key=lambda name: natural(Path(name)))


def _is_ignored(name: str) -> bool:
    return name.startswith((".", "depth_images")) or name.endswith("lmdb")


def _is_trajectory(folder: str) -> bool:
    return re.fullmatch(r"traj\d+", os.path.basename(folder)) is not None and "traj_group" in os.path.dirname(folder)


def _kinds(root: Path) -> set[str]:
    """The first kind of data that a walk finds."""
    for folder, below, names in _walk(root):
        if _is_trajectory(folder):
            return {"trajectory"}
        if any(SHARD.fullmatch(name) for name in names):
            return {"shard"}
        if "out.npy" in names and os.path.basename(folder) in SPLIT_OF:
            return {"numpy"}
        if "obs_dict.pkl" in names:
            below.clear()
    return set()


def task_words(name: str) -> str:
    """A task's folder as words, as Seer takes it: "flip_pot_upright_in_sink_distractors" -> "flip pot upright in sink"."""
    return " ".join(re.sub(r"[_-]", " ", name.replace("_distractors", "")).split())


def _task(folder: Path) -> str:
    """The task of a trajectory: the last folder above it that is no number, date or the like."""
    return task_words(next((part for part in reversed(folder.parts) if not PLAIN.fullmatch(part)), ""))


def _raw(root: Path, camera: int, note: Note) -> Iterator[Record]:
    bare, cameras, broken, found = 0, set[str](), list[str](), 0
    for folder, below, names in _walk(root):
        if not _is_trajectory(folder):
            continue
        here = [name for name in below if re.fullmatch(r"images\d+", name)]
        below.clear()
        cameras.update(here)
        path = Path(folder)
        if f"images{camera}" not in here:
            bare += 1
            continue
        try:
            text = (_instruction(path / "lang.txt") if "lang.txt" in names else "") or _task(path.parent)
        except FcaError as error:
            broken.append(error.message)
            continue
        found += 1
        id = path.relative_to(root).as_posix()
        yield Record(id, text, "train", Pictures(path / f"images{camera}", FPS))
    if broken:
        note(f"trajectories left out: {first_of(broken)}")
    if not found:
        there = f" (there: {', '.join(sorted(cameras))})" if cameras else ""
        raise FcaError(f"no trajectory below {root} has images{camera}{there}", NOTHING)
    if bare:
        note(f"{bare:,} of {found + bare:,} trajectories have no images{camera}")


def _instruction(path: Path) -> str:
    for line in lines(path):
        text = " ".join(line.split())
        if text and not re.match(r"confidence\b", text, re.IGNORECASE):
            if not is_text(text):
                raise FcaError(f"{path} is not valid UTF-8")
            return text
    return ""


def _seer_layout(root: Path, protocol: str, note: Note) -> Iterator[Record]:
    """rawframes/<task>/<number>, by Seer's list if it is there (it must be for its protocol), else all of them."""
    ids: list[Any] | None = None
    if (path := root / SEER_IDS).is_file():
        try:
            ids = json.loads("".join(lines(path)))
        except (ValueError, RecursionError) as error:
            raise FcaError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(ids, list) or not all(isinstance(id, str) and re.fullmatch(r"\w[\w.-]*/\d+", id) for id in ids):
            raise FcaError(f'{path} should be a list of names like "put_carrot_in_bowl/2"')
    elif protocol == "seer":
        raise FcaError(f"{path} is not there: Seer's list of clips decides which are train", "it is in Seer's repository")
    missing, found = 0, 0
    for number, id in enumerate(ids if ids is not None else _seer_folders(root / "rawframes")):
        split: Split = "train" if ids is None or number < int(SEER_TRAIN * len(ids)) else "val"
        folder = root / "rawframes" / id
        if not folder.is_dir():
            missing += 1
            continue
        found += 1
        yield Record(id, task_words(id.partition("/")[0]), split, Pictures(folder, FPS))
    if not found:
        raise FcaError(f"none of the clips of {SEER_IDS} is below {root / 'rawframes'}", NOTHING)
    if missing:
        note(f"{missing:,} of {found + missing:,} clips of {SEER_IDS} are not there")


def _seer_folders(root: Path) -> Iterator[str]:
    for task in sorted(path for path in root.iterdir() if path.is_dir()):
        for clip in sorted((path for path in task.iterdir() if path.is_dir()), key=natural):
            yield f"{task.name}/{clip.name}"


def _rlds(root: Path, camera: int, note: Note) -> Iterator[Record]:
    """Episodes of TFRecord shards; pictures stay where they are in the file."""
    key, cameras, found, broken = f"steps/observation/image_{camera}", set[str](), 0, list[str]()
    for folder, _, names in _walk(root):
        for name, match in [(name, match) for name in names if (match := SHARD.fullmatch(name))]:
            path = Path(folder, name)
            try:
                for number, features in enumerate(examples(path)):
                    cameras.update(key.rpartition("/")[2] for key in features if key.startswith("steps/observation/image"))
                    if key not in features:
                        continue
                    found += 1
                    text = _step_text(path, features.get("steps/language_instruction", []))
                    source = PictureBytes(path, f"{number}/image_{camera}", tuple(features[key]), FPS)
                    yield Record(f"{match[1]}{match[2] or ''}-{number}", text, SPLIT_OF[match[1]], source)
            except FcaError as error:
                broken.append(error.message)
    if not found:
        why = f" (there: {', '.join(sorted(cameras))})" if cameras else f": {first_of(broken)}" if broken else ""
        raise FcaError(f"no episode below {root} has image_{camera}{why}", NOTHING)
    if broken:
        note(f"episodes are lost: {first_of(broken)}")


def _step_text(path: Path, places: list[Place]) -> str:
    """The instruction of an episode: that of its first step that has one."""
    with path.open("rb") as file:
        for offset, size in places:
            if 0 < size <= LONGEST_TEXT:
                file.seek(offset)
                if text := " ".join(file.read(size).decode(errors="replace").split()):
                    return text
    return ""


def _numpy(root: Path, camera: int, note: Note) -> Iterator[Record]:
    """Trajectories of out.npy: loading them unpickles, which can run any program."""
    import numpy as np

    found, broken = 0, list[str]()
    for folder, _, names in _walk(root):
        split = SPLIT_OF.get(os.path.basename(folder))
        if "out.npy" not in names or split is None:
            continue
        path = Path(folder, "out.npy")
        try:
            trajectories = np.load(path, allow_pickle=True)
        except Exception as error:  # whatever the pickle does
            broken.append(f"{path}: {error}")
            continue
        for number, trajectory in enumerate(trajectories):
            try:
                pixels = np.stack([np.asarray(step[f"images{camera}"]) for step in trajectory["observations"]])
            except (KeyError, TypeError, ValueError, IndexError):
                broken.append(f"{path} trajectory {number}: no observations with images{camera}")
                continue
            if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
                broken.append(f"{path} trajectory {number}: images{camera} are {pixels.dtype} {pixels.shape}")
                continue
            found += 1
            id = f"{path.parent.relative_to(root).as_posix()}/{number}"
            yield Record(id, _said(trajectory) or _task(path.parent), split, Array(path, str(number), pixels, FPS))
    if broken:
        note(f"trajectories left out: {first_of(broken)}")
    if not found:
        raise FcaError(f"no trajectory below {root} can be used", NOTHING)


def _said(trajectory: Any) -> str:
    """The instruction that some conversions store with a trajectory."""
    said = trajectory.get("language", "")
    said = said[0] if isinstance(said, list | tuple) and said else said
    return " ".join(said.split()) if isinstance(said, str) else ""
