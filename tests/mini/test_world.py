"""The miniature world: determinism, grammar, physics, pictures."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fcacli.mini.drawing import camera
from fcacli.mini.scene import DIRECTIONS, SHAKE, SIDE, actions, parse_caption, scene_from_json
from fcacli.mini.world import EDGE_MARGIN, render, sample_clip, simulate

CLIPS = {domain: [sample_clip(11, i, domain) for i in range(150)] for domain in ("base", "adapt")}
BOTH = CLIPS["base"] + CLIPS["adapt"]


def test_same_seed_gives_same_bytes_whatever_was_drawn_before():
    first = hashlib.sha256(sample_clip(5, 17).video().tobytes()).hexdigest()
    sample_clip(5, 3)
    assert hashlib.sha256(sample_clip(5, 17).video().tobytes()).hexdigest() == first
    assert hashlib.sha256(sample_clip(6, 17).video().tobytes()).hexdigest() != first


@pytest.mark.parametrize("domain", ["base", "adapt"])
def test_every_caption_of_the_grammar_parses_back(domain):
    for action in actions(domain):
        assert parse_caption(action.caption) == action
        assert action.template.count("[something]") == 1
        assert action.template.replace("[something]", f"{action.colour} {action.kind}").lower() == action.caption


@pytest.mark.parametrize("caption", ["", "pushing red cup", "eating red cup left", "pulling red cup up", "lifting cup up"])
def test_other_sentences_are_refused(caption):
    with pytest.raises(ValueError, match="not a sentence"):
        parse_caption(caption)


def test_scene_and_caption_alone_give_the_truth():
    for clip in BOTH:
        scene = scene_from_json(clip.scene.to_json())
        paths, truth = simulate(scene, parse_caption(clip.caption), 16), clip.paths()
        assert np.array_equal(paths.things, truth.things)
        assert np.array_equal(paths.hand, truth.hand)


def test_caption_names_exactly_one_thing():
    for clip in BOTH:
        names = [thing.name for thing in clip.scene.things]
        assert len(set(names)) == len(names)
        assert names.count(f"{clip.action.colour} {clip.action.kind}") == 1


def test_only_the_named_thing_moves_and_only_after_the_given_frames():
    for clip in BOTH:
        things = clip.paths().things
        target = clip.scene.find(clip.action.colour, clip.action.kind)
        moved = np.abs(things - things[:1]).max(axis=(0, 2)) > 1e-9
        assert moved[target] == (clip.action.verb not in ("cover", "uncover"))
        assert not np.delete(moved, target).any()
        assert np.array_equal(things[0], things[1])
        assert np.array_equal(clip.paths().hand[0], clip.paths().hand[1])


def test_things_stay_in_the_picture_and_apart():
    for clip in BOTH:
        things = clip.paths().things
        centre = things[..., :2] - np.stack([np.zeros_like(things[..., 2]), things[..., 2]], -1)
        radius = np.array([thing.size / 2 for thing in clip.scene.things])
        assert (centre > radius[:, None]).all()
        assert (centre < SIDE - radius[:, None]).all()
        for i in range(len(radius)):
            for j in range(i):
                gap = np.hypot(*(things[:, i, :2] - things[:, j, :2]).T)
                assert (gap > radius[i] + radius[j]).all()


def test_amount_fixes_the_distance_and_direction_the_way():
    seen = set()
    for clip in BOTH:
        action = clip.action
        if action.verb not in DIRECTIONS:
            continue
        target = clip.scene.find(action.colour, action.kind)
        thing, things = clip.scene.things[target], clip.paths().things[:, target, :2]
        step = np.array(DIRECTIONS[action.verb][action.direction])
        gone = things[-1] - things[0]
        assert gone @ step == pytest.approx(np.abs(gone).sum())
        if action.amount == "edge":
            end = things[-1] @ np.abs(step)
            margin = (SIDE - end if step.sum() > 0 else end) - thing.size / 2
            assert margin == pytest.approx(EDGE_MARGIN)
        else:
            assert gone @ step == pytest.approx({"slightly": 5, "": 11, "far": 18}[action.amount])
        seen.add(action.amount)
    assert seen == {"slightly", "", "far", "edge"}


def test_text_is_needed_distractors_share_colour_or_kind():
    several = [clip for clip in BOTH if len(clip.scene.things) > 1]
    shares = [
        any((thing.colour == clip.action.colour) != (thing.kind == clip.action.kind) for thing in clip.scene.things)
        for clip in several
    ]
    assert len(several) > 0.6 * len(BOTH)
    assert np.mean(shares) > 0.6


def test_there_are_one_to_four_things_of_many_sizes():
    counts = [len(clip.scene.things) for clip in BOTH]
    assert {1, 2, 3, 4} == set(counts)
    assert min(counts.count(n) for n in (1, 2, 3, 4)) > 20
    sizes = [thing.size for clip in BOTH for thing in clip.scene.things]
    assert min(sizes) < 10 and max(sizes) > 13


def test_camera_moves_slightly_and_not_at_once():
    paths = np.stack([camera(clip.scene, 16) for clip in BOTH])  # (n, T, 2)
    assert np.abs(paths).max() <= SHAKE
    assert np.abs(np.diff(paths, axis=1)).max() < 0.6
    assert (np.abs(paths).max(axis=(1, 2)) > 0.1).mean() > 0.5


def test_hand_rests_away_from_the_thing_it_will_move():
    for clip in BOTH:
        if clip.action.verb != "drop":
            thing = clip.scene.things[clip.scene.find(clip.action.colour, clip.action.kind)]
            assert np.hypot(clip.scene.hand[0] - thing.x, clip.scene.hand[1] - thing.y) > thing.size / 2 + 4


def test_domains_differ_in_table_hand_and_kinds():
    base, adapt = CLIPS["base"], CLIPS["adapt"]
    assert not {clip.scene.table for clip in base} & {clip.scene.table for clip in adapt}
    assert {clip.scene.hand_style for clip in base} == {"bare"}
    assert {clip.scene.hand_style for clip in adapt} == {"glove"}
    assert not any(thing.kind == "star" for clip in base for thing in clip.scene.things)
    assert any(clip.action.kind == "star" for clip in adapt)
    assert not np.array_equal(base[0].video(), adapt[0].video())


@pytest.mark.parametrize("size", [48, 64, 96, 240])
def test_renders_at_any_size(size):
    clip = CLIPS["base"][0]
    video = clip.video(size, 17)
    assert video.shape == (17, size, size, 3)
    assert video.dtype == np.uint8
    small = clip.video(48, 17).mean((1, 2))
    assert np.abs(video.mean((1, 2)) - small).max() < 3.0


def test_covering_hides_and_uncovering_shows_the_named_thing():
    for clip in BOTH:
        if clip.action.verb not in ("cover", "uncover"):
            continue
        target = clip.scene.find(clip.action.colour, clip.action.kind)
        thing, paths = clip.scene.things[target], clip.paths()
        distance = np.hypot(*(paths.cloth - [thing.x, thing.y]).T)
        covered = 15 if clip.action.verb == "cover" else 0
        assert distance[covered] == pytest.approx(0.0, abs=1e-9)
        assert distance[15 - covered] > thing.size / 2


def test_things_are_the_only_saturated_pixels():
    for clip in BOTH[::10]:
        video = render(clip.scene, clip.paths(), 48)[0].astype(float)
        chroma = video.max(-1) - video.min(-1)
        y, x = np.nonzero(chroma > 110)
        centres = np.array([[thing.x, thing.y - thing.height, thing.size] for thing in clip.scene.things])
        near = np.hypot(x[:, None] - centres[:, 0], y[:, None] - centres[:, 1]) < 0.75 * centres[:, 2]
        assert near.any(1).all()
