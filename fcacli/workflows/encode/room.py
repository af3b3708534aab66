"""Room on the disk for encodings: said and reserved before the work starts, freed of what an earlier fca left."""

import contextlib
import re
import shutil
from pathlib import Path

from fcacli.data.cache import EncodedStore, Keys
from fcacli.data.shard import row_bytes
from fcacli.errors import FcaError
from fcacli.events import Message, Report
from fcacli.workflows.encode.plan import Plan, gigabytes


def make_room(store: EncodedStore, plan: Plan, wanted: dict[str, Keys], what: str, report: Report) -> None:
    """Say what the encodings of `what` take, and reserve it; nothing is said where nothing is missing.

    Args:
        wanted: keys of all entries by kind.

    Raises:
        FcaError: the disk has not that much left.
    """
    missing = {kind: keys[store.missing(kind, keys)] for kind, keys in wanted.items()}
    if not any(len(keys) for keys in missing.values()):
        return
    new = {kind: store.unreserved(kind, keys) for kind, keys in missing.items()}
    needed = sum(len(keys) * row_bytes(plan.rows[kind]) for kind, keys in new.items())
    left = shutil.disk_usage(next(path for path in store.folder.parents if path.exists())).free
    report(Message(f"encodings of {what} take {plan.said()}; {gigabytes(left)} are free on the disk of {store.folder}"))
    if needed > left:
        raise FcaError(
            f"there is no room in {store.folder}: {gigabytes(needed)} are needed, {gigabytes(left)} are free",
            "free some space there, or prepare fewer clips: fca prepare ... --limit N",
        )
    for kind, keys in new.items():
        if len(keys):
            store.reserve(kind, keys, plan.rows[kind])


def remove_old_entries(folder: Path, report: Report) -> None:
    """Files of a clip or caption each, as fca made them before there were shards: they cannot be used any more."""
    old = [path for path in folder.glob("[0-9a-f][0-9a-f]/*.safetensors") if re.fullmatch("[0-9a-f]{64}", path.stem)]
    if not old:
        return
    report(
        Message(f"{folder} holds {len(old):,} encodings of an earlier fca, in another form: they are removed and made again")
    )
    for path in old:
        with contextlib.suppress(OSError):  # a folder that is only read: they stay, unused
            path.unlink()
            path.parent.rmdir()
