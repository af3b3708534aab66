"""The demo: what it refuses, the other caption it finds, and (slow) the whole of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from fcacli.errors import FcaError, Misuse
from fcacli.mini.scene import SIDE
from fcacli.mini.world import sample_clip, simulate
from fcacli.workflows.demo import demo, other_action


def test_other_action_moves_the_same_thing_the_opposite_way_and_stays_in_sight() -> None:
    found = 0
    for index in range(200):
        clip = sample_clip(0, index, "adapt")
        if (other := other_action(clip.scene, clip.action)) is None:
            continue
        found += 1
        target = clip.scene.find(clip.action.colour, clip.action.kind)
        own, opposite = (simulate(clip.scene, action, 16).things[:, target, 0] for action in (clip.action, other))
        assert np.sign(own[-1] - own[0]) == -np.sign(opposite[-1] - opposite[0]) != 0
        radius = clip.scene.things[target].size / 2
        assert opposite.min() > radius
        assert opposite.max() < SIDE - radius
        assert (simulate(clip.scene, other, 16).things[0] == simulate(clip.scene, clip.action, 16).things[0]).all()
    assert found > 20


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FcaError, match="holds something else"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_demo_with_other_settings_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps({"seed": 1, "clips": 40, "steps": 2}))
    with pytest.raises(Misuse, match="other settings"):
        demo(tmp_path, seed=2)


@pytest.mark.slow
def test_the_whole_loop_runs_and_running_it_again_changes_nothing(tmp_path: Path) -> None:
    first = demo(tmp_path / "demo", clips=24, steps=2)
    assert all(path.stat().st_size > 0 for path in first.files)
    assert {"demo.mp4", "demo.gif", "contact_sheet.png", "two_captions.png", "table.txt"} <= {path.name for path in first.files}
    assert "copy last frame" in first.table
    again = demo(tmp_path / "demo", clips=24, steps=2)
    assert again.table == first.table
    assert len(list((tmp_path / "demo" / "runs").iterdir())) == 1
