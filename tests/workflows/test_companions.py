"""Another process that shares a part of a command: it meets this one, ends with it, and its death is noticed."""

import os
import sys
import time
import types
from pathlib import Path

import pytest

from fcacli.errors import FcaError, ProcessLost
from fcacli.workflows.companions import companions
from fcacli.workflows.ranks import rank, team_of


def tell(folder: Path) -> None:
    with team_of(None, "again") as team:
        team.gathered((team.rank, os.getpid()))
    if sys.modules.get("kernels", "") is None:  # what bitsandbytes would fetch from the hub
        (folder / str(os.getpid())).touch()


def die(folder: Path) -> None:
    with team_of(None, "again"):
        os._exit(3)


def sleep(folder: Path) -> None:
    (folder / "asleep").write_text(str(os.getpid()))
    time.sleep(600)


def test_two_meet_twice_and_afterwards_this_one_is_alone_again(tmp_path):
    before = dict(os.environ)
    for _ in range(2):
        with companions(1, tell, tmp_path):
            assert rank() is not None
            with team_of(None, "again") as team:
                assert team.main
                (own, mine), (other, theirs) = team.gathered((team.rank, os.getpid()))
                assert (own, mine, other) == (0, os.getpid(), 1)
        assert (tmp_path / str(theirs)).is_file()
        assert rank() is None and dict(os.environ) == before


def test_none_is_none(tmp_path):
    with companions(0, sleep, tmp_path), team_of(None, "again") as team:
        assert team.size == 1
    assert not any(tmp_path.iterdir())


def test_what_goes_wrong_here_ends_the_other(tmp_path):
    with pytest.raises(FcaError, match="no disk"), companions(1, sleep, tmp_path):
        while not (tmp_path / "asleep").is_file() or not (tmp_path / "asleep").read_text():
            time.sleep(0.05)
        raise FcaError("no disk")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "asleep").read_text()), 0)


def test_one_that_cannot_be_started_is_an_error_at_once(tmp_path, monkeypatch):
    nowhere = types.ModuleType("nowhere_to_be_found")
    exec("def work(folder): pass", nowhere.__dict__)
    monkeypatch.setitem(sys.modules, nowhere.__name__, nowhere)
    with pytest.raises(FcaError, match="cannot be started, it ended with status 1"), companions(1, nowhere.work, tmp_path):
        raise AssertionError("it goes on alone")


def test_its_death_is_noticed_and_others_can_follow(tmp_path):
    with pytest.raises(ProcessLost), companions(1, die, tmp_path), team_of(None, "again") as team:
        team.gathered(0)
    with companions(1, tell, tmp_path), team_of(None, "again") as team:
        assert len(team.gathered((0, 0))) == 2
