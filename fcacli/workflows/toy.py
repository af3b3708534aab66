"""`fca toy`: a miniature dataset in the layout of Something-Something V2."""

from dataclasses import dataclass
from pathlib import Path

from fcacli.errors import FcaError
from fcacli.events import Message, Progress, Report, silent


@dataclass(frozen=True)
class ToyResult:
    """What was drawn."""

    folder: Path
    counts: dict[str, int]
    """Clips in each split, by Something-Something's names: train, validation, test."""


def write_toy(out: Path, *, clips: int, seed: int = 0, size: int = 96, report: Report = silent) -> ToyResult:
    """Draw `clips` clips, `size` pixels square; equal arguments give equal clips.

    Raises:
        FcaError: `out` cannot be written or holds something else, or the numbers do not fit.
    """
    from fcacli.mini.toy import write_toy_dataset

    phase = "draw clips"
    try:
        counts = write_toy_dataset(out, clips, seed, size, progress=lambda done, total: report(Progress(phase, done, total)))
    except OSError as error:
        raise FcaError(
            f"cannot write {out}: {error.strerror or error}", "free disk space, or a folder you may write to"
        ) from error
    report(Message(", ".join(f"{count} {split}" for split, count in counts.items()) + f" clips in {out}"))
    return ToyResult(out, counts)
