"""`fca toy`: a miniature dataset in the layout of Something-Something V2."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.errors import FcaError
from fcacli.events import Message, Progress, Report, silent

if TYPE_CHECKING:
    from fcacli.mini.scene import Verb


@dataclass(frozen=True)
class ToyResult:
    """What was drawn."""

    folder: Path
    counts: dict[str, int]
    """Clips in each split, by Something-Something's names: train, validation, test."""


def write_toy(
    out: Path,
    *,
    clips: int,
    seed: int = 0,
    size: int = 96,
    verbs: "tuple[Verb, ...] | None" = None,
    others: int = 3,
    held_out: int | None = None,
    frames: int = 16,
    report: Report = silent,
) -> ToyResult:
    """Draw `clips` clips, `size` pixels square; equal arguments give equal clips.

    Args:
        verbs: what the hand does; None for all it can.
        others: most things beside the one that the caption names.
        held_out: clips of the validation split; None for a tenth.
        frames: of a clip.

    Raises:
        FcaError: `out` cannot be written or holds something else, or the numbers do not fit.
    """
    from fcacli.mini.toy import write_toy_dataset
    from fcacli.mini.world import ALL_VERBS

    def progress(done: int, total: int) -> None:
        report(Progress("draw clips", done, total))

    try:
        counts = write_toy_dataset(
            out, clips, seed, size, verbs=verbs or ALL_VERBS, others=others, held_out=held_out, frames=frames, progress=progress
        )
    except OSError as error:
        raise FcaError(
            f"cannot write {out}: {error.strerror or error}", "free disk space, or a folder you may write to"
        ) from error
    report(Message(", ".join(f"{count} {split}" for split, count in counts.items()) + f" clips in {out}"))
    return ToyResult(out, counts)
