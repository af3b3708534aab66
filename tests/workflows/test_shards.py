"""Claims about `fca prepare --shard`: parts on machines of their own add up to the run of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from raw_videos import moving_square, write_ssv2, write_video

from fcacli.errors import FcaError, Misuse
from fcacli.workflows.lock import locked
from fcacli.workflows.preparation import Preparation
from fcacli.workflows.prepare import check, prepare
from fcacli.workspace import Workspace

LABELS = {"train": [(str(n), f"caption {n % 4}") for n in range(9)], "validation": [("20", "v"), ("21", "v")]}
NO_VAL = {"train": LABELS["train"]}


@pytest.fixture(scope="module", params=[LABELS, NO_VAL], ids=["val", "no val"])
def raw(request, tmp_path_factory):
    root = write_ssv2(tmp_path_factory.mktemp("raw"), request.param)
    write_video(root / "20bn-something-something-v2" / "3.webm", moving_square(5))  # too short
    return root


def tree(folder):
    """Every file's bytes but those that hold the order of work, the time of day and the process."""
    apart = (".lock", "dataset.json")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in apart and path.suffix != ".jsonl"]
    files += folder.glob("*/metadata.jsonl")
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def single(raw, tmp_path_factory):
    return tree(prepare("ssv2", raw, Workspace(tmp_path_factory.mktemp("single")), workers=1).folder)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_add_up_to_exactly_the_single_run(raw, single, tmp_path, order):
    space, made = Workspace(tmp_path), 0
    for number in order:
        result = prepare("ssv2", raw, space, workers=1, shard=(number, 3))
        made += result.made
        if number != order[-1]:
            assert result.waiting > 0 and result.audit is None
            with pytest.raises(FcaError, match="no prepared data"):
                space.dataset()
    assert result.waiting == 0 and tree(space.dataset()) == single
    assert made == sum(result.counts.values())
    for options in ({}, {"shard": (2, 3)}, {"shard": (1, 2)}):  # nothing is left to do, whoever asks
        again = prepare("ssv2", raw, space, workers=1, **options)
        assert (again.made, again.waiting) == (0, 0) and tree(space.dataset()) == single


def test_one_run_takes_over_what_parts_have_done(raw, single, tmp_path):
    space = Workspace(tmp_path)
    part = prepare("ssv2", raw, space, workers=1, shard=(2, 3))
    rest = prepare("ssv2", raw, space, workers=1)
    assert part.made > 0 and rest.reused == part.made and tree(space.dataset()) == single


SCRIPT = """
import sys
from pathlib import Path
from fcacli.workflows.prepare import prepare
from fcacli.workspace import Workspace
number, raw, root = sys.argv[1:]
print(prepare("ssv2", Path(raw), Workspace(Path(root)), workers=1, shard=(int(number), 3)).waiting)
"""


def test_parts_at_the_same_time(raw, single, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    commands = [[sys.executable, "-c", SCRIPT, str(number), str(raw), str(tmp_path)] for number in (1, 2, 3)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for command in commands]
    waiting = [int(process.communicate(timeout=100)[0]) for process in processes]
    assert 0 in waiting and tree(Workspace(tmp_path).dataset()) == single


def test_a_part_that_finishes_while_another_joins_them_finds_everything_in_its_place(raw, single, tmp_path, monkeypatch):
    space, joining = Workspace(tmp_path), Preparation.joining
    prepare("ssv2", raw, space, workers=1, shard=(1, 2))

    def late(self):
        monkeypatch.undo()
        assert prepare("ssv2", raw, space, workers=1, shard=(1, 2)).waiting == 0  # moves the clips held out
        return joining(self)

    monkeypatch.setattr(Preparation, "joining", late)
    assert prepare("ssv2", raw, space, workers=1, shard=(2, 2)).waiting == 0 and tree(space.dataset()) == single


def test_a_part_runs_once_and_not_beside_the_whole(raw, tmp_path):
    space = Workspace(tmp_path)
    folder = space.new_dataset("ssv2")
    with locked(folder / ".shards" / "2-of-3"):
        with pytest.raises(FcaError, match=f"part 2 of 3 of .* by process {os.getpid()}"):
            prepare("ssv2", raw, space, workers=1, shard=(2, 3))
        with pytest.raises(FcaError, match=f"part 2-of-3 of .* by process {os.getpid()}"):
            prepare("ssv2", raw, space, workers=1)
        assert prepare("ssv2", raw, space, workers=1, shard=(1, 3)).made > 0


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_a_part_that_there_is_not(raw, tmp_path, shard):
    with pytest.raises(Misuse, match="--shard takes I/N"):
        prepare("ssv2", raw, Workspace(tmp_path), shard=shard)


def test_a_check_looks_at_the_whole(raw, tmp_path):
    with pytest.raises(Misuse, match="leave out --shard"):
        check("ssv2", raw, Workspace(tmp_path), shard=(1, 2))
