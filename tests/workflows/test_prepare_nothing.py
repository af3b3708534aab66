"""Preparations from which no clip comes out: the name stays free, and the hint is a command that works."""

from pathlib import Path

import pytest
from raw_videos import moving_square, write_ssv2, write_video

from fcacli.data.sampling import Form
from fcacli.errors import FcaError
from fcacli.workflows.prepare import prepare
from fcacli.workspace import Workspace

CLIPS = Path("20bn-something-something-v2")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_a_preparation_that_came_to_nothing_does_not_hold_the_name(workspace, tmp_path):
    short = write_ssv2(tmp_path / "short", {"train": [("1", "a"), ("2", "b")]})
    write_video(short / CLIPS / "1.webm", moving_square(10))
    write_video(short / CLIPS / "2.webm", moving_square(7))
    with pytest.raises(FcaError, match="none of the 2 clips can be used") as error:
        prepare("ssv2", short, workspace, workers=1)
    assert error.value.hint.startswith(f"fca prepare ssv2 {short} --frames 10 ") and "skipped.json" in error.value.hint
    assert not (workspace.data / "ssv2" / "unfinished.json").exists()
    raw = write_ssv2(tmp_path / "raw", {"train": [("1", "a"), ("2", "b"), ("3", "c")], "validation": [("7", "d")]})
    assert prepare("ssv2", raw, workspace, workers=1).counts["train"] == 3


def test_the_command_for_clips_that_are_too_short_works(workspace, tmp_path):
    short = write_ssv2(tmp_path / "short", {"train": [("1", "a"), ("2", "b")]})
    for number, frames in ((1, 10), (2, 7)):
        write_video(short / CLIPS / f"{number}.webm", moving_square(frames))
    with pytest.raises(FcaError, match="fewer frames than needed"):
        prepare("ssv2", short, workspace, workers=1, form=Form(init_frames=1))
    assert prepare("ssv2", short, workspace, workers=1, form=Form(init_frames=1, frames=10)).counts["train"] == 1
