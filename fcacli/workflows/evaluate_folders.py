"""`fca eval --pred DIR --real DIR`: any two folders of videos, scored per frame, whatever tool made them."""

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np

from fcacli import __version__
from fcacli.data.decode import Track, Unreadable, frames_of
from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.frame import WINDOW
from fcacli.evaluation.pairs import listed, pair
from fcacli.evaluation.report import conditions, results, score_clip, summarise, table
from fcacli.events import Report, silent, track
from fcacli.workflows.evaluate import COPY_ROW, EvaluateResult


def evaluate_folders(pred: Path, real: Path, *, given: int = 0, report: Report = silent) -> EvaluateResult:
    """Score predicted videos against true ones of the same names, whatever tool made them.

    Args:
        pred, real: folders of videos (MP4, AVI, WebM, GIF, MOV, MKV) or of folders of images.
        given: first frames that do not count.

    Raises:
        FcaError: names, frame counts or sizes differ, or videos cannot be read; all of them are named.
    """
    if given < 0:
        raise Misuse(f"--given must be 0 or more, got {given}")
    pairs = pair(pred, real)
    scores: dict[str, list[Mapping[str, np.ndarray]]] = {name: [] for name in ("prediction", COPY_ROW)[: 2 if given else 1]}
    shapes, faults = [], []
    for name, (predicted, true) in track(pairs.items(), report, "score"):
        try:
            shape, rows = _score_pair(predicted, true, given)
        except FcaError as error:
            faults.append(f"{name}: {error.message}")
            continue
        shapes.append(shape)
        for row, clips in zip(rows, scores.values(), strict=False):
            clips.append(row)
    if faults:
        raise FcaError(f"{len(faults)} of {len(pairs)} videos cannot be scored; {listed(faults)}", "repair or remove them")
    lines = [summarise(name, clips) for name, clips in scores.items()]
    kinds = sorted({path.suffix.lower() or "images" for both in pairs.values() for path in both})
    said = conditions(given, shapes, f"decoded files ({', '.join(kinds)}); what a lossy codec changed counts")
    about = {"kind": "folders", "version": __version__, "pred": str(pred), "real": str(real)}
    return EvaluateResult(None, [], table(lines, len(pairs), said), results(lines, list(pairs), said, about))


def _score_pair(predicted: Path, true: Path, given: int) -> tuple[tuple[int, ...], list[dict[str, np.ndarray]]]:
    """The shape (T, H, W, 3) of two videos, and the scores of the prediction and of copy-last-frame.

    Frame by frame, so that memory does not grow with the length.

    Raises:
        FcaError: one cannot be read as a whole, or they cannot be compared.
    """
    tracks, still, size = (Track(), Track()), None, (0, 0)
    rows: list[list[dict[str, np.ndarray]]] = [[], []]
    for number, (a, b) in enumerate(zip_longest(frames_of(predicted, tracks[0]), frames_of(true, tracks[1]))):
        if a is None or b is None:
            continue  # to the end, to say how many there are
        size = b.shape[:2]
        if a.shape != b.shape:
            raise FcaError(f"predicted {a.shape[1]}x{a.shape[0]}, true {size[1]}x{size[0]}")
        if min(size) < WINDOW:
            raise FcaError(f"{size[1]}x{size[0]} is below SSIM's window of {WINDOW}")
        if number < given:
            still = b
            continue
        for row, frame in zip(rows, (a, still), strict=True):
            if frame is not None:
                row.append(score_clip(frame[None], b[None], 0))
    for path, found in zip((predicted, true), tracks, strict=True):
        if found.problem:
            raise Unreadable(path, found.problem)
    count, length = (len(found.stamps) for found in tracks)
    if count != length:
        raise FcaError(f"{count} predicted and {length} true frames")
    if length <= given:
        raise FcaError(f"{length} frames, of which {given} are given")
    joined = [{name: np.concatenate([score[name] for score in row]) for name in row[0]} for row in rows if row]
    return (length, *size, 3), joined
