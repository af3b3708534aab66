"""Claims about report.html: what stands in it, and what it does in a real Chromium."""

import base64
import io
import json
import re

import numpy as np
import pytest
from chromium import chromium
from PIL import Image

from fcacli.errors import FcaError
from fcacli.evaluation import page as page_module
from fcacli.evaluation.page import PageClip, clips_to_show, write_page
from fcacli.evaluation.page_charts import horizon_charts, training_charts
from fcacli.evaluation.sprite import make_sprite

METHOD, COPY, BASE = "fca, step 4", "copy last frame", "base, text only"
FRAMES, GIVEN = 6, 2
HOSTILE = "<script>document.title='hacked'</script></script><img src=x onerror=alert(1)> & \"q\" {{ 7 * 7 }} \u202e"
CAPTIONS = ["pushing red cup left", "pushing blue cup right", "lifting red box", HOSTILE, "dropping cup"]
PSNR = [21.0, 25.0, 19.5, 30.0, 22.0]
LPIPS = [0.30, 0.10, 0.20, 0.40, 0.25]


def colour(clip: int, video: int, frame: int) -> tuple[int, int, int]:
    return 40 * clip + 5, 60 * video + 7, 40 * frame + 9


def video_of(clip: int, number: int, given: bool) -> np.ndarray:
    """Each frame in a colour of its own, the given ones the true ones."""
    kinds = [0 if given and t < GIVEN else number for t in range(FRAMES)]
    return np.stack([np.full((20, 32, 3), colour(clip, kind, t), np.uint8) for t, kind in enumerate(kinds)])


def clips():
    for number, text in enumerate(CAPTIONS):
        truth = video_of(number, 0, True)
        copy = truth.copy()
        copy[GIVEN:] = truth[GIVEN - 1]
        videos = {"truth": truth, METHOD: video_of(number, 1, True), COPY: copy, BASE: video_of(number, 2, False)}
        ours = {"psnr": PSNR[number], "lpips": LPIPS[number]}
        scores = {
            METHOD: ours,
            COPY: {"psnr": 30 - PSNR[number], **({"lpips": number / 10} if number % 2 else {})},
            BASE: {"psnr": 10.0},
        }
        yield PageClip(f"clip{number}", text, videos, scores)


def metric(title, values, better, digits, unit="", **more):
    return {
        "value": float(np.mean(values)),
        "interval": [min(values), max(values)],
        "title": title,
        "unit": unit,
        "better": better,
        "digits": digits,
        "per_frame": [max(values) - p for p in range(FRAMES - GIVEN)],
        "per_clip": list(values),
        "conditions": {"window": f"that of {title}"},
        **more,
    }


@pytest.fixture
def results():
    mini = metric("mini-FVD", [31.5], "lower", 2, per_clip=None, per_frame=None, interval=None)
    ours = {"psnr": metric("PSNR", PSNR, "higher", 2, "dB"), "lpips": metric("LPIPS", LPIPS, "lower", 3), "mini-fvd": mini}
    ours["psnr"]["best_of"] = {"samples": 3, "value": 33.25, "interval": None}
    theirs = {"psnr": metric("PSNR", [30 - value for value in PSNR], "higher", 2, "dB")}
    rows = [(METHOD, "method", ours), (COPY, "baseline", theirs), (BASE, "baseline", theirs)]
    return {
        "kind": "run",
        "version": "0",
        "run": "first",
        "checkpoint": "step-000004",
        "protocol": "ours",
        "clips": len(CAPTIONS),
        "names": [f"clip{i}" for i in range(len(CAPTIONS))],
        "content": ["0" * 64] * len(CAPTIONS),
        "metrics": ours,
        "rows": [{"name": n, "role": r, "metrics": m, "features": {}, "about": {"guidance": 1.5}} for n, r, m in rows],
        "missing": [{"metric": metric, "why": "no I3D weights", "how": "fca weights fetch i3d"} for metric in ("fvd", "kvd")],
        "conditions": {"given_frames": GIVEN, "size": "32x20", "source": "generated frames, lossless"},
    }


LOG = [{"step": s, "loss": 1 / s, "lr": 1e-4} for s in range(1, 1001)] + [
    {"step": 500, "psnr": 20.0},
    {"step": 1000, "psnr": 22.0},
]


@pytest.fixture
def written(results, tmp_path):
    write_page(tmp_path / "report.html", results, clips(), given=GIVEN, fps=8, training=LOG)
    return tmp_path / "report.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def opened(browser, written):
    """The page, at rest, at frame 0."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(written, height=4000)
    browser.wait("clips.every(clip => clip.picture)")
    return browser


def order(page) -> list[int]:
    """Numbers of the clips that are seen, from top to bottom."""
    names = page.run(
        "[...document.querySelectorAll('article')].filter(a => !a.hidden).map(a => a.querySelector('p').textContent)"
    )
    return [int(name.removeprefix("clip")) for name in names]


def choose(page, id: str, value: str) -> None:
    event = "new Event('input', {bubbles: true})"
    page.run(f"$({json.dumps(id)}).value = {json.dumps(value)}; $({json.dumps(id)}).dispatchEvent({event})")


# ---------------------------------------------------------------- in the browser


def test_it_loads_without_complaint_and_asks_for_nothing(opened):
    opened.press(" ")
    opened.wait("player.frame > 1")
    assert opened.complaints == []
    outside = [address for address in opened.requests if not address.startswith("data:image/webp;base64,")]
    assert len(outside) == 1 and outside[0].endswith("/report.html")
    assert opened.run("document.title") == f"first: {METHOD}"


def test_all_videos_show_the_pixels_of_the_same_frame(opened):
    read = "clips.map(clip => clip.canvases.map(c => [...c.getContext('2d').getImageData(9, 9, 1, 1).data].slice(0, 3)))"
    marked = "clips[0].canvases.map(canvas => canvas.classList.contains('given'))"
    for frame in [*range(FRAMES), 0]:
        opened.run(f"player.seek({frame})")
        kind = {"truth": 0, "method": 0 if frame < GIVEN else 1}
        for clip, seen in enumerate(opened.run(read)):
            last = colour(clip, 0, min(frame, GIVEN - 1))
            wanted = [last, colour(clip, kind["method"], frame), colour(clip, 0, frame), last, colour(clip, 2, frame)]
            assert [tuple(pixel) for pixel in seen] == wanted
        assert opened.run(marked) == [True, *[frame < GIVEN] * 3, False]


def test_it_plays_steps_and_stops_by_keyboard(opened):
    assert opened.run("player.playing") is False  # its reader asked for less motion
    opened.press("ArrowRight")
    opened.press("ArrowRight")
    assert opened.run("[player.frame, $('scrub').value, $('frame').textContent]") == [2, "2", "frame 2 / 5"]
    opened.press("ArrowLeft")
    assert opened.run("$('frame').textContent") == "frame 1 / 5, given"
    opened.press("End")
    assert opened.run("player.frame") == FRAMES - 1
    opened.press(" ")
    opened.wait("player.frame === 0")
    opened.wait("player.frame === 3")
    opened.press(" ")
    still = opened.run("new Promise(done => { const f = player.frame; setTimeout(() => done(player.frame - f), 400) })")
    assert still == 0 and opened.run("$('play').textContent") == "Play"


def test_the_button_and_the_slider_do_the_same(opened):
    opened.run("$('play').click()")
    opened.wait("player.frame === 2")
    choose(opened, "scrub", "4")
    assert opened.run("[player.playing, player.frame]") == [False, 4]


def test_speed_is_that_of_the_clips_times_the_chosen_one(opened):
    advance = (
        "player.playing = true; player.time = 0; player.last = 1000; player.tick(1500); player.playing = false; player.frame"
    )
    assert opened.run(advance) == 4  # half a second at 8 frames per second
    choose(opened, "speed", "0.5")
    assert opened.run(advance) == 2


def test_it_moves_by_itself_unless_its_reader_wants_less_motion(browser, written):
    browser.open(written, moving=True)
    browser.wait("player.frame === 2")


def test_clips_are_sorted_by_the_score_of_any_row_worst_and_best_first(opened):
    assert order(opened) == [0, 1, 2, 3, 4]
    opened.press("w")
    assert order(opened) == [2, 0, 4, 1, 3]
    opened.press("b")
    assert order(opened) == [3, 1, 4, 0, 2]
    choose(opened, "metric", "lpips")
    assert order(opened) == [1, 2, 4, 0, 3]
    choose(opened, "metric", "psnr")
    choose(opened, "row", COPY)
    assert order(opened) == [2, 0, 4, 1, 3]
    choose(opened, "metric", "lpips")
    assert order(opened) == [1, 3, 0, 2, 4]  # those without a score come last
    opened.press("w")
    assert order(opened) == [3, 1, 0, 2, 4]
    choose(opened, "order", "text")
    assert order(opened)[1:] == [4, 2, 1, 0]
    opened.press("d")
    assert order(opened) == [0, 1, 2, 3, 4]


def test_the_filter_wants_all_words_and_does_not_take_keys_for_commands(opened):
    opened.press("/")
    opened.write("CUP push")
    assert order(opened) == [0, 1] and opened.run("$('count').textContent") == "2 of 5"
    opened.press("w")
    assert opened.run("$('order').value") == "drawn"
    opened.press("Escape")
    assert len(order(opened)) == 5
    opened.press("j")
    opened.press("j")
    opened.press("k")
    assert opened.run("document.activeElement.querySelector('p').textContent") == "clip0"


def test_a_row_is_hidden_in_all_clips(opened):
    seen = "[...document.querySelectorAll('figure[data-row=\"1\"]')].filter(f => f.checkVisibility()).length"
    assert opened.run(seen) == len(CAPTIONS)
    opened.run("document.querySelectorAll('.shown')[1].click()")
    assert opened.run(seen) == 0


def test_only_clips_near_the_view_are_decoded(browser, written):
    browser.open(written, height=200)
    browser.run("$('list').children[0].scrollIntoView()")
    browser.wait("clips[0].picture")
    assert browser.run("clips[4].picture ?? null") is None
    browser.run("$('list').children[4].scrollIntoView()")
    browser.wait("clips[4].picture && !clips[0].picture")


def test_nothing_given_one_row_no_scores_and_other_lengths(browser, results, tmp_path):
    results |= {"kind": "folders", "pred": "theirs", "real": "truth", "names": ["a", "b"], "clips": 2, "missing": []}
    results["metrics"] = {"mini-fvd": results["metrics"]["mini-fvd"]}
    results["rows"] = [{"name": "prediction", "metrics": results["metrics"]}]
    long, short = (
        np.arange(t, dtype=np.uint8)[:, None, None, None].repeat(3, 3) + np.zeros((1, 8, 8, 1), np.uint8) for t in (9, 4)
    )
    videos = [PageClip(name, "", {"truth": v, "prediction": v}, {}) for name, v in (("a", long), ("b", short))]
    write_page(tmp_path / "p.html", results, videos, given=0, fps=8)
    browser.complaints.clear()
    browser.open(tmp_path / "p.html")
    browser.wait("clips.every(clip => clip.picture)")
    browser.press("End")
    browser.press("w")
    read = "clips.map(clip => clip.canvases.map(c => c.getContext('2d').getImageData(1, 1, 1, 1).data[0]))"
    assert browser.run(read) == [[8, 8], [3, 3]]  # the shorter one rests on its last frame
    assert browser.run("document.querySelectorAll('canvas.given').length") == 0
    assert browser.run("document.title") == "theirs against truth" and browser.complaints == []
    assert browser.run("clips[0].element.querySelector('h3').textContent") == "a"


def test_phone_and_dark(browser, written, tmp_path):
    browser.open(written, width=400, height=860, dark=True)
    assert browser.run("document.documentElement.scrollWidth") <= 400
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(23, 23, 26)"
    browser.screenshot(tmp_path / "phone.png")
    assert np.asarray(Image.open(tmp_path / "phone.png").convert("L")).mean() < 60


def test_captions_are_text_and_nothing_else(opened):
    assert opened.run("clips[3].text") == HOSTILE
    assert opened.run("clips[3].element.querySelector('h3').textContent") == HOSTILE
    assert opened.run("document.querySelectorAll('article img, article h3 *').length") == 0
    policy = opened.run(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); window.ran"
    )
    assert policy is None and "Content Security Policy" in opened.complaints[0]


# ---------------------------------------------------------------- what stands in it


def test_the_table_has_every_row_with_intervals_and_best_of_by_its_name(written):
    table = re.sub(r"<[^>]+>", " ", written.read_text().split("<tbody>")[1].split("</tbody>")[0])
    words = " ".join(table.split())
    assert "fca, step 4 23.50 19.50 to 30.00 best of 3: 33.25 0.250 0.100 to 0.400 31.50" in words
    assert "copy last frame 6.50 0.00 to 10.50 – –" in words and "base, text only 6.50" in words


def test_conditions_and_what_is_missing_are_said(written):
    page = written.read_text()
    for words in ("that of PSNR", "that of LPIPS", "that of mini-FVD", "generated frames, lossless", "guidance", "step-000004"):
        assert words in page
    assert "<dt>fvd, kvd</dt><dd>no I3D weights: <code>fca weights fetch i3d</code></dd>" in page
    assert "5 clips are few: below 256" in page


def test_curves_have_a_line_for_each_row_that_has_the_metric(results, written):
    assert [(chart.title, [line.name for line in chart.lines]) for chart in horizon_charts(results, GIVEN)] == [
        ("PSNR (dB)", [METHOD, COPY, BASE]),
        ("LPIPS", [METHOD]),
    ]
    first, *_, last = horizon_charts(results, GIVEN)[0].lines[0].points
    assert first[2] == f"{METHOD}, frame 2: 30.00" and last[2] == f"{METHOD}, frame 5: 27.00"
    assert first[0] < last[0] and first[1] < last[1]  # to the right, and down
    assert written.read_text().count("<polyline") == 4 + 3


def test_training_curves_average_neighbouring_steps():
    charts = {chart.title: chart for chart in training_charts(LOG)}
    assert list(charts) == ["training loss", "validation PSNR (dB)", "learning rate"]
    points = charts["training loss"].lines[0].points
    assert len(points) == 200 and charts["training loss"].note == "each point the mean of 5 steps"
    assert points[0][2] == f"loss, step 5: {(1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5:.4g}"
    (held_out,) = training_charts([{"step": s, "held_out": 0.1 * s, "held_out/0.1": 0.2} for s in (1, 2)])
    assert [line.name for line in held_out.lines] == ["held_out", "held_out/0.1"]
    assert training_charts([{"step": 1, "loss": float("nan")}, {"step": 2, "name": "x"}]) == []


def test_without_training_or_missing_metrics_these_sections_are_left_out(results, tmp_path):
    results["missing"] = []
    write_page(tmp_path / "p.html", results, clips(), given=GIVEN, fps=8)
    page = (tmp_path / "p.html").read_text()
    assert 'id="training"' not in page and "Not computed" not in page


# ---------------------------------------------------------------- which clips, in how much room


def test_of_many_clips_the_worst_the_best_and_some_others_are_shown(results):
    values = np.random.default_rng(0).permutation(200).astype(float)
    results |= {"names": [f"c{i}" for i in range(200)], "metrics": {"psnr": metric("PSNR", values.tolist(), "higher", 2)}}
    shown = clips_to_show(results)
    assert len(shown) == len(set(shown)) == 64 and shown == sorted(shown, key=lambda name: int(name[1:]))
    ranks = {int(values[int(name[1:])]) for name in shown}
    assert set(range(16)) | set(range(184, 200)) <= ranks
    assert shown == clips_to_show(results)


def test_pictures_stay_within_their_room(results, tmp_path, monkeypatch):
    """Noise, which does not compress: the room for all clips is kept, and said what it cost."""
    monkeypatch.setattr(page_module, "PICTURE_BYTES", 120_000)
    rng = np.random.default_rng(0)
    noise = (PageClip(f"clip{i}", "noise", {"truth": rng.integers(0, 256, (6, 140, 160, 3), np.uint8)}, {}) for i in range(5))
    write_page(tmp_path / "p.html", results, noise, given=GIVEN, fps=8)
    page = (tmp_path / "p.html").read_text()
    pictures = re.findall(r'<script type="text/plain">([^<]+)<', page)
    assert len(pictures) == 5 and 60_000 < sum(map(len, pictures)) <= 120_000
    assert re.search(r"WebP, of quality \d+", page)


def test_small_frames_are_exact_and_each_is_stored_once():
    clip = next(clips())
    sprite = make_sprite(clip.videos, 100_000)
    assert sprite.quality is None
    assert sprite.cells[COPY] == [0, 1, 1, 1, 1, 1] and sprite.cells[METHOD][:GIVEN] == [0, 1]
    assert max(map(max, sprite.cells.values())) + 1 == FRAMES + (FRAMES - GIVEN) + FRAMES
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite.base64))).convert("RGB"))
    for name, cells in sprite.cells.items():
        for frame, cell in zip(clip.videos[name], cells, strict=True):
            row, column = divmod(cell, sprite.columns)
            np.testing.assert_array_equal(sheet[row * 20 : row * 20 + 20, column * 32 : column * 32 + 32], frame)


def test_large_frames_are_reduced_and_other_sizes_refused():
    video = np.zeros((3, 300, 600, 3), np.uint8)
    video[1:] += 9
    sprite = make_sprite({"truth": video}, 100_000)
    assert (sprite.width, sprite.height, sprite.cells) == (512, 256, {"truth": [0, 1, 1]})
    with pytest.raises(FcaError, match="truth 600x300, other 300x300"):
        make_sprite({"truth": video, "other": video[:, :, :300]}, 100_000)


def test_a_metric_of_which_neither_way_is_better_says_what_the_truth_has_and_orders_no_clips(tmp_path, results):
    flickering = metric("flickering", [0.9] * len(CAPTIONS), "none", 3, truth=0.925)
    results["metrics"]["flickering"] = results["rows"][0]["metrics"]["flickering"] = flickering
    write_page(tmp_path / "report.html", results, clips(), given=GIVEN, fps=8)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "flickering<small>neither way is better; the true videos have 0.925</small>" in page
    assert '<option value="psnr">' in page and '<option value="flickering">' not in page
    chart = next(one for one in horizon_charts(results, GIVEN) if one.title == "flickering")
    assert chart.note == "neither way is better; the true videos have 0.925"
