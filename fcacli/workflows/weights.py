"""`fca weights`: what the metrics' networks need, what of it is here, and fetching the rest where there is a network."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.weights import (
    CLIP_FILES,
    WEIGHTS,
    Weights,
    cache_folder,
    check_weights,
    checksum_state,
    find_weights,
    weights_of,
)
from fcacli.events import Message, Progress, Report
from fcacli.workflows.download import download
from fcacli.workflows.lock import locked

MIB = 1024**2
AGAIN = "run the same command again: it goes on where it stopped"


@dataclass(frozen=True)
class Found:
    """One row of the table."""

    name: str
    what: str
    metrics: tuple[str, ...]
    path: Path | None
    """None where it is not here."""
    checksum: str
    """"verified", "unverified, pinned", "unverified", "refused: ..."; "" where it is not here."""
    stated_by: str
    """Who states the checksum it is compared with."""
    sha256: dict[str, str]
    source: str
    size: int | None
    """Bytes."""
    licence: str


def survey(weights_dir: Path | None = None) -> list[Found]:
    """What each metric needs and whether it is here; nothing is fetched, nothing is pinned.

    Raises:
        FcaError: `weights_dir` is not a folder.
    """
    rows = []
    for name, weights in WEIGHTS.items():
        path = find_weights(name, weights_dir)
        state = _state(name, path) if path else ""
        fixed = (weights.stated_by, weights.sha256, weights.source, weights.size, weights.licence)
        rows.append(Found(name, weights.what, weights.metrics, path, state, *fixed))
    return rows


def _state(name: str, path: Path) -> str:
    try:
        return checksum_state(name, path)
    except FcaError as error:
        return f"refused: {error.message}"


def fetch(names: Sequence[str], report: Report, weights_dir: Path | None = None) -> None:
    """Fetch weights, by their own name or a metric's, into `weights_dir` or where this program keeps them.

    What is here and right stays. A fetch that was interrupted goes on where it stopped.

    Raises:
        Misuse: there is nothing of that name.
        FcaError: no network, offline mode, no space, or what came is not what was meant.
    """
    place = weights_dir or cache_folder()
    for name in [name for said in names for name in _meant(said)]:
        with locked(place, f"weights are being fetched into {place}", waiting=report):
            _fetch(WEIGHTS[name], weights_dir, report)


def _fetch(weights: Weights, weights_dir: Path | None, report: Report) -> None:
    name = weights.name
    path = find_weights(name, weights_dir)
    if path is not None and (weights_dir is None or weights_dir in path.parents) and checksum_state(name, path) == "verified":
        report(Message(f"{name} is here already: {path}"))
        return
    _check_online(weights)
    path = _fetch_model(weights, weights_dir, report) if weights.hub_id else _fetch_file(weights, weights_dir, report)
    report(Message(f"{name}: {path} ({check_weights(name, path)})"))


def _meant(said: str) -> tuple[str, ...]:
    """Weights by their name, or all that a metric needs."""
    if found := (said,) if said in WEIGHTS else weights_of(said):
        return found
    metrics = [metric for weights in WEIGHTS.values() for metric in weights.metrics]
    known = ", ".join(dict.fromkeys([*WEIGHTS, *metrics]))
    raise Misuse(f"--fetch {said}: there are no such weights", f"one of {known}")


def _check_online(weights: Weights) -> None:
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            raise FcaError(f"cannot fetch {weights.name}: offline mode is on ({variable})", _by_hand(weights))


def _fetch_file(weights: Weights, weights_dir: Path | None, report: Report) -> Path:
    phase, target = f"fetching {weights.name}, MiB", (weights_dir or cache_folder()) / weights.file

    def advance(here: int, total: int | None) -> None:
        whole = None if total is None else -(-total // MIB)
        report(Progress(phase, -(-here // MIB) if here == total else here // MIB, whole))

    download(weights.source, target, weights.sha256[weights.file], advance, f"{AGAIN}; or {_by_hand(weights)}")
    return target


def _fetch_model(weights: Weights, weights_dir: Path | None, report: Report) -> Path:
    """A hub model, into the hub's own cache or below the folder given."""
    import huggingface_hub

    report(Message(f"fetching {weights.hub_id} from the hub"))
    place = weights_dir / weights.repository if weights_dir else None
    try:
        folder = huggingface_hub.snapshot_download(
            weights.hub_id, revision=weights.revision, allow_patterns=[*CLIP_FILES, weights.file], local_dir=place
        )
    except Exception as error:  # the hub's client raises all kinds
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FcaError(
            f"cannot fetch {weights.hub_id} from the Hugging Face hub: {cause}", f"{AGAIN}; or {_by_hand(weights)}"
        ) from error
    return Path(folder)


def _by_hand(weights: Weights) -> str:
    """What to do where this machine has no network."""
    if weights.hub_id:
        get = f"hf download {weights.hub_id} --revision {weights.revision} --local-dir FOLDER/{weights.repository}"
    else:
        get = f"fetch {weights.source} into FOLDER"
    return f"on a connected machine {get}, and give FOLDER here as --weights-dir or FCA_WEIGHTS"
