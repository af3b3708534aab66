"""The pixel program that judges videos: right on true clips, and not on ones where nothing or something else happens."""

from __future__ import annotations

import numpy as np
import pytest

from fcacli.mini.finding import find, read_scene
from fcacli.mini.oracle import foresee, happened, shows
from fcacli.mini.scene import KINDS
from fcacli.mini.world import Clip, sample_clip, simulate

CLIPS = {domain: [sample_clip(23, i, domain) for i in range(32)] for domain in ("base", "adapt")}
VIDEOS = {domain: [clip.video() for clip in clips] for domain, clips in CLIPS.items()}
DOMAINS = pytest.mark.parametrize("domain", ["base", "adapt"])


def true_place(clip: Clip) -> np.ndarray:
    """Where the named thing is in the picture at the end."""
    x, y, height, _ = clip.paths().things[-1, clip.scene.find(clip.action.colour, clip.action.kind)]
    return np.array([x, y - height])


@DOMAINS
def test_true_clips_succeed(domain):
    verdicts = [happened(video, clip) for video, clip in zip(VIDEOS[domain], CLIPS[domain], strict=True)]
    assert np.mean([verdict.success for verdict in verdicts]) >= 0.98
    assert np.median([verdict.distance for verdict in verdicts]) < 0.8


@pytest.mark.slow
@DOMAINS
def test_of_256_true_clips_at_least_98_percent_succeed(domain):
    clips = [sample_clip(24, i, domain) for i in range(256)]
    assert np.mean([happened(clip.video(), clip).success for clip in clips]) >= 0.98


@DOMAINS
def test_a_picture_that_stands_still_fails(domain):
    still = [np.repeat(video[:1], 16, 0) for video in VIDEOS[domain]]
    assert not any(happened(video, clip).success for video, clip in zip(still, CLIPS[domain], strict=True))


@DOMAINS
def test_the_wrong_thing_moving_fails(domain):
    wrong = []
    for clip in CLIPS[domain]:
        others = [thing for thing in clip.scene.things if thing.name != f"{clip.action.colour} {clip.action.kind}"]
        if not others or clip.action.verb in ("cover", "uncover", "drop"):
            continue
        other = type(clip.action)(
            verb=clip.action.verb, colour=others[0].colour, kind=others[0].kind,
            direction=clip.action.direction, amount=clip.action.amount,
        )  # fmt: skip
        wrong.append(happened(Clip(scene=clip.scene, action=other).video(), clip).success)
    assert len(wrong) > 12
    assert not any(wrong)


@DOMAINS
def test_given_frame_and_caption_decide_the_outcome_within_a_pixel(domain):
    far = [
        np.hypot(*(np.array(foresee(video[0], clip.action, clip.scene)) - true_place(clip)))
        for video, clip in zip(VIDEOS[domain], CLIPS[domain], strict=True)
    ]
    assert np.mean(np.array(far) < 1.0) >= 0.96
    assert np.median(far) < 0.5


def test_caption_is_shown_by_its_own_clip_and_not_by_another_colour_or_shape():
    clips, videos = CLIPS["base"][:16], VIDEOS["base"][:16]
    own = [shows(video, clip.action) for video, clip in zip(videos, clips, strict=True)]
    assert np.mean([s.colour and s.thing and s.motion for s in own]) >= 0.98
    rolled = [shows(videos[i - 1], clip.action) for i, clip in enumerate(clips)]
    assert np.mean([s.thing and s.motion for s in rolled]) < 0.1


def test_things_are_read_with_kind_colour_place_and_size():
    right = total = 0
    for clip, video in zip(CLIPS["base"][:12], VIDEOS["base"], strict=False):
        if clip.scene.cloth is not None or clip.action.verb == "drop":
            continue
        there = {thing.name: thing for thing in read_scene(video[0], KINDS["base"])}
        total += len(clip.scene.things)
        right += sum(
            thing.name in there
            and np.hypot(there[thing.name].x - thing.x, there[thing.name].y - thing.y) < 1.0
            and abs(there[thing.name].size - thing.size) < 1.5
            for thing in clip.scene.things
        )
    assert right / total >= 0.95


def test_noise_shows_nothing():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 48, 48, 3), dtype=np.uint8)
    assert not any(shows(noise, clip.action).thing for clip in CLIPS["base"][:10])
    assert all(found.match < 0.35 for found in find(noise[0], CLIPS["base"][0].scene.things))


def test_a_thing_blurred_by_a_pixel_is_still_found():
    import cv2

    for clip in CLIPS["base"][:10]:
        video = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in clip.video()])
        assert happened(video, clip).success
        assert np.array_equal(clip.paths().things, simulate(clip.scene, clip.action).things)
