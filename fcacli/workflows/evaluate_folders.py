"""`fca eval --pred DIR --real DIR`: any two folders of videos, whatever tool made them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import numpy as np

from fcacli import __version__
from fcacli.data.images import Unreadable
from fcacli.data.sampling import SEER_SIZE
from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.feature_cache import FeatureCache
from fcacli.evaluation.frame import psnr
from fcacli.evaluation.pairs import Pairs, listed, pair, pair_common, read_video
from fcacli.evaluation.report import conditions, results, table, write_features
from fcacli.evaluation.scoring import Clips, Method, copy_last_frame, score
from fcacli.evaluation.set_interval import bootstrap_set
from fcacli.events import Message, Report, silent, track
from fcacli.workflows.evaluate import COPY_ROW, EvaluateResult
from fcacli.workflows.evaluate_pictures import write_report
from fcacli.workflows.evaluate_rows import content_of
from fcacli.workflows.scorers import load
from fcacli.workflows.scoring_plan import Facts, Scoring, plan, under_protocol
from fcacli.workflows.seer import warn_of_few
from fcacli.workflows.trained import choose_device
from fcacli.workspace import cache_home, read_json, write_json

FPS = 8.0
"""Of the videos on the page; a score knows no frame rate."""
CODEC_NOISE = 45.0
"""dB from the truth above which a predicted frame is taken for the true one: a good codec's copy of it is about as near."""


def evaluate_folders(
    pred: Path,
    real: Path,
    *,
    given: int = 0,
    scoring: Scoring = Scoring(),  # noqa: B008 - frozen
    intersect: bool = False,
    strict: bool = False,
    device: str | None = None,
    out: Path | None = None,
    report: Report = silent,
) -> EvaluateResult:
    """Score predicted videos against true ones of the same names, whatever tool made them.

    Args:
        pred, real: folders of videos (MP4, AVI, WebM, GIF, MOV, MKV), of folders of images, or of .npy and .npz arrays;
            prompts, where a metric reads them, are in `real`/<name>.txt.
        given: first frames that are given: per-frame metrics leave them out, distances of sets do not.
        intersect: whether videos that only one folder has, or that differ in length or size, are left out.
        strict: whether a video that cannot be read ends it; else it is named and left out.
        out: folder for results.json and report.html; None to write nothing.

    Raises:
        Misuse: an option is out of range.
        FcaError: names, frame counts or sizes differ, or no video can be read; all of them are named.
    """
    if given < 0:
        raise Misuse(f"--given must be 0 or more, got {given}")
    if out is not None:
        _require_own(out)
    scoring = under_protocol(scoring)
    if scoring.prepend_given and not given:
        raise Misuse("true given frames in front need to know how many: --given", "--given 2")
    pairs = pair_common(pred, real, report) if intersect else pair(pred, real)
    videos = _Videos(pairs, real, given, scoring.prepend_given)
    found = _read(videos, strict, intersect, report)
    if not given and (alike := _alike(found.values())):
        report(
            Message(
                f"the first {alike} frame{'s' if alike > 1 else ''} of every predicted video {'are' if alike > 1 else 'is'} "
                f"the true {'ones' if alike > 1 else 'one'}, like given frames: the scores are inflated if they are; "
                f"--given {alike} leaves them out",
                "warning",
            )
        )
    facts = Facts(given, [clip.shape for clip in found.values()], all(clip.text for clip in found.values()), mini=False)
    if scoring.protocol == "seer":
        if sizes := sorted({f"{w}x{h}" for _, h, w, _ in facts.shapes} - {f"{SEER_SIZE}x{SEER_SIZE}"}):
            said_of = f"Seer's numbers are of {SEER_SIZE}x{SEER_SIZE} pixels, these of {', '.join(sizes)} do not compare"
            report(Message(f"{said_of}; give both folders that size", "warning"))
        warn_of_few(len(found), "more videos in both folders", report)
    planned = plan(scoring, facts, report)
    methods = [Method("prediction", "method", [videos.predicted])]
    if given:
        methods.append(Method(COPY_ROW, "baseline", [lambda name: copy_last_frame(videos.true(name), given)]))
    clips = Clips(list(found), videos.true, given, {name: clip.text for name, clip in found.items() if clip.text})
    scorers = load(planned, str(choose_device(device)))
    interval = bootstrap_set if scoring.intervals else None
    with _features() as folder:
        scored = score(methods, clips, scorers.frames, scorers.sets, FeatureCache(folder), interval, report)
    said = conditions(given, facts.shapes, {"predictions": _kinds(pairs, 0), "truth": _kinds(pairs, 1)})
    said["left_out"] = [name for name in pairs if name not in found]
    numbers = results(
        scored,
        clips.names,
        [clip.content for clip in found.values()],
        conditions=said,
        metric_conditions=scorers.conditions(),
        missing=planned.missing,
        about={
            **{"kind": "folders", "version": __version__, "pred": str(pred), "real": str(real)},
            **{"protocol": scoring.protocol, "samples": 1},
        },
    )
    files = []
    if out is not None:
        files = [out / "report.html", out / "results.json"]
        write_features(out, scored)
        write_report(files[0], numbers, methods, clips, FPS)
        write_json(files[1], numbers)
    return EvaluateResult(out, None, files, table(scored, len(found), said, scorers.conditions(), planned.missing), numbers)


def _require_own(out: Path) -> None:
    """
    Raises:
        FcaError: the folder holds something else than scores.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        own = read_json(out / "results.json").get("kind") == "folders"
    except (FcaError, AttributeError):
        own = False
    if not own:
        raise FcaError(f"--out {out} exists and holds something else", "another --out")


def _kinds(pairs: Pairs, side: int) -> str:
    """What the videos of one side are decoded from."""
    kinds = sorted({"images" if both[side].is_dir() else both[side].suffix.lower() for both in pairs.values()})
    return f"decoded files ({', '.join(kinds)}); what a lossy codec changed counts"


@contextmanager
def _features() -> Iterator[Path]:
    """Where features are kept for the next time; a folder for this time where that cannot be written."""
    folder = cache_home() / "features"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()
        except OSError:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        yield folder


@dataclass(frozen=True)
class _Clip:
    """What is known of a pair that can be scored."""

    shape: tuple[int, ...]
    """(T, H, W, 3)"""
    content: str
    text: str
    alike: int
    """First frames that both have, but for codec noise."""


class _Videos:
    """The videos of the pairs, decoded when asked for; the last few stay in memory."""

    def __init__(self, pairs: Pairs, real: Path, given: int, prepend: bool):
        self.pairs, self.real, self.given, self.prepend = pairs, real, given, prepend
        self.true: Callable[[str], np.ndarray] = lru_cache(maxsize=2)(lambda name: read_video(self.pairs[name][1]))
        self.predicted: Callable[[str], np.ndarray] = lru_cache(maxsize=2)(self._predicted)

    def _predicted(self, name: str) -> np.ndarray:
        """As it is scored: of the true one's length and size, true given frames in front where that was asked for.

        Raises:
            FcaError: it cannot be.
        """
        video, truth = read_video(self.pairs[name][0]), self.true(name)
        if video.shape[1:] != truth.shape[1:]:
            sizes = (f"{shape[2]}x{shape[1]}" for shape in (video.shape, truth.shape))
            raise FcaError("predicted {}, true {}".format(*sizes))
        if len(truth) <= self.given:
            raise FcaError(f"{len(truth)} frames, of which {self.given} are given")
        if self.prepend and len(video) in (len(truth), len(truth) - self.given):
            return np.concatenate([truth[: self.given], video[len(video) - len(truth) + self.given :]])
        if len(video) != len(truth):
            raise FcaError(f"{len(video)} predicted and {len(truth)} true frames")
        return video

    def text(self, name: str) -> str:
        """The prompt beside the true video; "" if there is none."""
        path = self.real / f"{name}.txt"
        return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def _read(videos: _Videos, strict: bool, intersect: bool, report: Report) -> dict[str, _Clip]:
    """Every pair that can be scored, looked at once.

    Raises:
        FcaError: pairs that are unlike each other, unless `intersect`; that cannot be read, if `strict`; or no pair is left.
    """
    found: dict[str, _Clip] = {}
    unlike, unreadable = [], []
    for name in track(videos.pairs, report, "read"):
        try:
            truth = videos.true(name)
            alike = _first_alike(videos.predicted(name), truth)
            found[name] = _Clip(truth.shape, content_of(truth), videos.text(name), alike)
        except Unreadable as error:
            unreadable.append(f"{name}: {error.message}")
        except FcaError as error:
            unlike.append(f"{name}: {error.message}")
    faults = [*unlike, *unreadable]
    if (unlike and not intersect) or (unreadable and strict) or not found:
        hint = "repair or remove them" + (", or --intersect leaves them out" if unlike and found else "")
        if unlike:
            hint += "; fca prepare folder REAL --size WxH --frames T brings true videos to another form"
        raise FcaError(f"{len(faults)} of {len(videos.pairs)} videos cannot be scored; {listed(faults)}", hint)
    for fault in faults:
        report(Message(f"{fault}; left out", "warning"))
    return found


def _first_alike(video: np.ndarray, truth: np.ndarray) -> int:
    """How many first frames (T, H, W, 3) both have, but for codec noise."""
    for number in range(len(truth)):
        if psnr(video[number : number + 1], truth[number : number + 1])[0] < CODEC_NOISE:
            return number
    return len(truth)


def _alike(clips: Iterable[_Clip]) -> int:
    """First frames that look given: those alike in every video; one that is alike to its end says nothing."""
    return min((clip.alike for clip in clips if clip.alike < clip.shape[0]), default=0)
