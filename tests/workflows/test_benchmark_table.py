"""The tables of the benchmark, from rows whose figures are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from fcacli.evaluation.intervals import bootstrap_interval
from fcacli.mini.world import sample_clip
from fcacli.workflows.benchmark.arms import ARMS
from fcacli.workflows.benchmark.choose import best
from fcacli.workflows.benchmark.company import companies
from fcacli.workflows.benchmark.table import by_company, difference, differences_of, line_of, lines_of, per_clip
from fcacli.workflows.benchmark.text import cells, markdown, text

ARM = {arm.name: arm for arm in ARMS}
COUNT = 40


def row(
    arm: str, seed: int = 0, *, psnr: np.ndarray | float = 20.0, success: np.ndarray | bool = True, count: int = COUNT
) -> dict:
    """Two predicted frames, 1 dB apart."""
    psnrs, successes = np.broadcast_to(psnr, count), np.broadcast_to(success, count)
    features = np.random.default_rng(1).standard_normal((count, 3))
    clips = [
        {
            "id": str(i),
            "text": "pushing cup",
            "psnr": [psnrs[i] + 0.5, psnrs[i] - 0.5],
            "ssim": [0.9, 0.7],
            "success": bool(successes[i]),
            "target": True,
            "others": bool(successes[i]),
            "given_psnr": 30.0,
        }
        for i in range(count)
    ]
    return {
        "arm": arm,
        "seed": seed,
        "steps": 7,
        "lr": 0.001,
        "parameters": 1_790_000,
        "multiply_adds": 2_500_000_000,
        "seconds_per_step": 0.5 + seed,
        "seconds_per_clip": 2.0,
        "clips": clips,
        "features": (features, features),
        "made": {"hardware": "abacus", "date": "2026-11-23", "version": "0", "commit": "abc"},
    }


def results(rows: dict, tried: list[dict] | None = None) -> dict:
    settings = {"base": "mini", "base_fingerprint": "f00d", "steps": 7, "clips": 9, "scored": COUNT}
    conditions = {"hardware": ["abacus"], "date": ["2026-11-23"], "version": ["0"], "commit": ["abc"]}
    return {"settings": settings, "conditions": conditions, **parts(rows), "by_company": [], "tried": tried or []}


def parts(rows: dict) -> dict:
    return {"lines": lines_of("main", rows), "differences": differences_of("main", rows)}


def test_a_clip_counts_with_its_mean_over_seeds_and_the_interval_is_over_clips() -> None:
    values = np.linspace(10, 30, COUNT)
    line = line_of(ARM["fca"], [row("fca", 0, psnr=values), row("fca", 1, psnr=values + 4)], "main")
    assert line["psnr"]["value"] == pytest.approx(22)
    assert line["psnr"]["seeds"] == pytest.approx([20, 24])
    assert line["psnr"]["interval"] == pytest.approx(bootstrap_interval(values + 2))
    assert line["psnr"]["per_frame"] == pytest.approx([22.5, 21.5])
    assert (line["seeds"], line["clips"], line["seconds_per_step"]) == (2, COUNT, 1.0)
    assert line["frechet"] == pytest.approx(0, abs=1e-9)


def test_the_difference_is_paired() -> None:
    """Clips differ by 20 dB among each other, the methods by 1 dB in every clip: the interval is that 1 dB alone."""
    values = np.linspace(10, 30, COUNT)
    one, other = [row("fca", psnr=values + 1)], [row("lora-64", psnr=values)]
    found = difference(one, other, "psnr")
    assert found["value"] == pytest.approx(1)
    assert found["interval"] == pytest.approx((1, 1))
    low, high = bootstrap_interval(per_clip(one, "psnr"))
    assert high - low > 2
    assert difference(other, one, "psnr")["value"] == pytest.approx(-1)


def test_success_of_paired_clips() -> None:
    half = np.arange(COUNT) % 2 == 0
    (found,) = differences_of("main", {"fca": [row("fca", success=True)], "lora-64": [row("lora-64", success=half)]})
    above = found["success"]
    assert (found["one"], found["other"], above["value"]) == ("fca", "lora-64", 0.5)
    assert 0.3 < above["interval"][0] < 0.5 < above["interval"][1] < 0.7


def test_ablations_stand_below_fca_on_their_clips_with_their_seed() -> None:
    values = np.arange(COUNT, dtype=float)
    rows = {
        "fca": [row("fca", 0, psnr=values), row("fca", 1, psnr=values + 50)],
        "no-mask": [row("no-mask", psnr=3.0, count=10)],
    }
    whole, without = lines_of("ablation", rows)
    assert (whole["arm"], whole["clips"], whole["seeds"]) == ("fca", 10, 1)
    assert whole["psnr"]["value"] == pytest.approx(4.5)
    assert without["psnr"]["value"] == pytest.approx(3)
    (found,) = differences_of("ablation", rows)
    assert (found["title"], found["psnr"]["value"]) == ("FCA minus without the frame-wise mask", pytest.approx(1.5))


def test_success_by_what_else_is_on_the_table(tmp_path: Path) -> None:
    clips = [sample_clip(3, index, "adapt") for index in range(COUNT)]
    lines = [{"id": str(i), "caption": clip.caption, "scene": clip.scene.to_json()} for i, clip in enumerate(clips)]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    of = companies(tmp_path)
    alone = np.array([len(clip.scene.things) == 1 for clip in clips])
    named = [(clip.action.colour, clip.action.kind) for clip in clips]
    alike = np.array(
        [sum(t.colour == colour or t.kind == kind for t in clip.scene.things) > 1
         for clip, (colour, kind) in zip(clips, named, strict=True)]
    )  # fmt: skip
    assert 0 < alone.sum() < alike.sum() < COUNT
    assert [of[str(i)] for i in range(COUNT)] == list(np.where(alone, "alone", np.where(alike, "alike", "unlike")))
    rows = {"fca": [row("fca", success=alone)], "lora-64": [row("lora-64", success=~alone)], "copy": [row("copy")]}
    found = {line["title"]: line for line in by_company(rows, of)}
    assert list(found) == ["FCA", "LoRA, rank 64", "FCA minus LoRA, rank 64"]
    assert [found["FCA"][name]["value"] for name in ("alone", "unlike", "alike")] == [1, 0, 0]
    difference = found["FCA minus LoRA, rank 64"]
    assert (difference["alone"]["value"], difference["alike"]["value"], difference["alike"]["clips"]) == (1, -1, alike.sum())
    table = markdown(results(rows) | {"by_company": list(found.values())})
    assert f"another of its kind or colour ({alike.sum()} clips)" in table
    assert "| FCA minus LoRA, rank 64 | 100 [100, 100] |" in table


def test_a_combination_is_compared_with_fca_and_with_lora() -> None:
    rows = {"fca": [row("fca")], "lora-64": [row("lora-64", psnr=19.0)], "fca-lora": [row("fca-lora", psnr=22.0)]}
    found = {(one["one"], one["other"]): one["psnr"]["value"] for one in differences_of("main", rows)}
    assert found == {("fca", "lora-64"): 1, ("fca", "fca-lora"): -2, ("fca-lora", "lora-64"): 3}


def test_what_was_scored_on_other_clips_is_not_compared() -> None:
    assert differences_of("main", {"fca": [row("fca")], "lora-64": [row("lora-64", count=10)]}) == []


def test_the_words_hold_every_figure_and_condition() -> None:
    rows = {"fca": [row("fca")], "lora-64": [row("lora-64", psnr=19.0)]}
    lines = lines_of("main", rows)
    assert cells(lines[0])[:5] == ["FCA", "100 % [100, 100]", "20.00 [20.00, 20.00]", "20.5 / 19.5", "0.800"]
    assert cells(lines[0])[8:11] == ["1.79 M", "2.50 G", "0.50"]
    assert "FCA minus LoRA, rank 64: task success 0 points [0, 0], PSNR 1.00 [1.00, 1.00] dB" in text(results(rows))
    said = markdown(results(rows))
    for words in ("abacus", "2026-11-23", "commit abc", "f00d", "mini-FVD", "Nothing was tried", "0.001"):
        assert words in said
    assert " FVD" not in said.replace("mini-FVD", "")
    for shown in (said, text(results(rows))):
        assert "with the true given ones in front of every row, the base's too" in shown


TRIED = [
    {"arm": "fca", "lr": 0.001, "steps": 5, "failed": None, "success": 0.5, "psnr": 20.0, "ssim": 0.5, "clips": 8},
    {"arm": "fca", "lr": 0.003, "steps": 5, "failed": None, "success": 0.5, "psnr": 21.0, "ssim": 0.5, "clips": 8},
    {"arm": "fca", "lr": 0.009, "steps": 5, "failed": "step 2: the loss is not finite"},
    {"arm": "lora-64", "lr": 0.001, "steps": 5, "failed": None, "success": 0.7, "psnr": 18.0, "ssim": 0.5, "clips": 8},
    {"arm": "lora-64", "lr": 0.003, "steps": 5, "failed": None, "success": 0.6, "psnr": 25.0, "ssim": 0.5, "clips": 8},
]


def test_psnr_chooses_and_what_failed_never_is() -> None:
    assert best(TRIED) == {"fca": 0.003, "lora-64": 0.003}, "of LoRA's, the one with the lower success"
    assert best(TRIED[2:3]) == {}


def test_every_setting_tried_is_listed() -> None:
    said = markdown(results({"fca": [row("fca")]}, TRIED))
    assert "| fca | 0.009 | 5 | step 2: the loss is not finite" in said
    assert "| lora-64 | 0.003 | 5 | 60 % | 25.00 | 8 |" in said
    tried = said.split("The tables stand under")[0].splitlines()
    rows = [line for line in tried if line.startswith(("| fca | 0.00", "| lora-64 | 0.00"))]
    assert len(rows) == len(TRIED) and all(len(line.split("|")) == 8 for line in rows)
