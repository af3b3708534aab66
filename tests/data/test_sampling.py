"""Claims about which frames a stored clip holds; Seer's are checked against torch, which its code uses."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from fcacli.data.sampling import Form, blend, picks, sized
from fcacli.data.spool import Spool
from fcacli.errors import Misuse

TIMES = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]


def test_every_frame_or_so_many_at_equal_spacing_nearest_and_never_blended():
    assert [(pick.first, round(pick.time, 3)) for pick in picks(Form(), TIMES)] == [(n, round(n / 10, 3)) for n in range(9)]
    chosen = picks(Form(frames=4), TIMES)
    assert [pick.first for pick in chosen] == [0, 3, 5, 8] and all(pick.share == 0 for pick in chosen)
    uneven = [0.0, 0.1, 0.9, 1.0]
    assert [pick.first for pick in picks(Form(frames=3), uneven)] == [0, 1, 3]
    assert len(picks(Form(frames=10), TIMES)) == 9  # too short, which the caller sees


def test_a_rate_takes_the_nearest_frames_and_with_a_count_the_first_ones():
    assert [pick.first for pick in picks(Form(fps=5.0), TIMES)] == [0, 2, 4, 6, 8]
    assert [pick.first for pick in picks(Form(fps=20.0), TIMES)][:5] == [0, 0, 1, 1, 2]
    first = picks(Form(fps=5.0, frames=3), TIMES)
    assert [(pick.first, round(pick.time, 3)) for pick in first] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert len(picks(Form(fps=5.0, frames=9), TIMES)) == 5
    assert [pick.first for pick in picks(Form(fps=5.0), [3.0])] == [0]


@pytest.mark.parametrize(("there", "frames"), [(48, 12), (16, 12), (13, 12), (12, 12)])
def test_seer_blends_as_torch_interpolates_in_time(there, frames):
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (there, 6, 6, 3), dtype=np.uint8)
    chosen = picks(Form(frames=frames, protocol="seer"), [n / 12 for n in range(there)])
    ours = np.stack([blend(video[pick.first], video[pick.second], pick.share) for pick in chosen])
    tensor = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float()
    theirs = tensor if there == frames else torch.nn.functional.interpolate(tensor, size=(frames, 6, 6), mode="trilinear")
    assert np.abs(ours - theirs[0].permute(1, 2, 3, 0).numpy()).max() <= 0.51
    assert chosen[0].time == 0 and all(a.time < b.time for a, b in pairwise(chosen))


def test_seer_continues_short_clips_in_grey():
    chosen = picks(Form(frames=12, protocol="seer"), [0.0, 0.1, 0.2])
    assert [pick.first for pick in chosen] == [0, 1, 2] + [None] * 9
    assert [round(pick.time, 3) for pick in chosen[2:5]] == [0.2, 0.3, 0.4]


def test_seer_cuts_the_middle_after_pillows_resize():
    frame = np.random.default_rng(1).integers(0, 256, (240, 427, 3), dtype=np.uint8)
    form = Form(frames=12, width=256, height=256, protocol="seer")
    wide = Image.fromarray(frame).resize((int(256 * 427 / 240), 256), Image.Resampling.BILINEAR)
    left = round((wide.width - 256) / 2)
    assert np.array_equal(sized(frame, 256, 256, form), np.asarray(wide)[:, left : left + 256])


@pytest.mark.parametrize(
    "options",
    [{"fps": 5.0}, {"fit": "pad"}, {"width": 320, "height": 256}, {"frames": 2, "init_frames": 2, "width": 256, "height": 256}],
)
def test_what_seer_does_not_do_is_misuse(options):
    with pytest.raises(Misuse):
        Form(protocol="seer", **{"frames": 12, "width": 256, "height": 256, **options})


@pytest.mark.parametrize("in_memory", [1, 2**20])
def test_a_spool_gives_frames_back_from_memory_and_from_the_disk(in_memory):
    frames = np.random.default_rng(2).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    with Spool(in_memory) as spool:
        for frame in frames[:4]:
            spool.append(frame)
        assert np.array_equal(spool[2], frames[2])
        for frame in frames[4:]:
            spool.append(frame)
        assert len(spool) == 7 and np.array_equal(np.stack([spool[index] for index in range(7)]), frames)
