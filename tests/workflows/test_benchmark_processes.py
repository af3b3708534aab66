"""Jobs shared out among processes: all are done, what they say arrives, failures and the end of time come through."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from fcacli.errors import FcaError, Interrupted
from fcacli.events import Event, Message, Report, silent
from fcacli.training.interrupt import watch
from fcacli.workflows.benchmark.processes import OutOfTime, share_out


def work(folder: Path, item: str, report: Report) -> None:
    """Importable: other processes call it."""
    if item == "fail":
        raise FcaError("the disk is full", "free some space")
    if item == "late":
        raise OutOfTime
    if item == "die":
        os._exit(9)
    if item == "train":
        with watch(silent) as signals:
            report(Message("training"))
            while signals.received is None:
                time.sleep(0.05)
            time.sleep(0.5)  # the step is finished
            (folder / "saved").write_text(str(int(signals.received)))
            raise Interrupted(signals.received, "saved", "")
    (folder / item).write_text("")
    report(Message(item))


def share(folder: Path, items: list[str], processes: int = 2) -> tuple[int, list[str]]:
    done, said = [], []

    def report(event: Event) -> None:
        assert isinstance(event, Message)
        said.append(event.text)

    share_out(partial(work, folder), items, processes, lambda: done.append(1), report)
    return len(done), said


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_is_done_once_and_heard(tmp_path: Path, processes: int) -> None:
    count, said = share(tmp_path, ["a", "b", "c"], processes)
    assert count == 3
    assert sorted(said) == ["a", "b", "c"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "item,expected,message",
    [("fail", FcaError, "the disk is full"), ("late", OutOfTime, "^$"), ("die", FcaError, "ended with status 9")],
)
def test_how_a_process_ends_is_known(tmp_path: Path, item: str, expected: type[Exception], message: str) -> None:
    with pytest.raises(expected, match=message):
        share(tmp_path, [item, "a"])


def test_ctrl_c_lets_the_others_save(tmp_path: Path) -> None:
    heard = []

    def report(event: Event) -> None:
        heard.append(event)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share_out(partial(work, tmp_path), ["train", "train"], 2, lambda: None, report)
    assert (tmp_path / "saved").read_text() == str(int(signal.SIGTERM))
