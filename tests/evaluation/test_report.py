"""results.json and the table: every number with its conditions, what is missing, and no more columns than fit."""

import numpy as np
import pytest

from fcacli.errors import Misuse
from fcacli.evaluation.metrics import METRICS, default_metrics, parse_metrics
from fcacli.evaluation.report import WIDTH, Missing, conditions, results, table, write_features
from fcacli.evaluation.scoring import Method, Score, Scored

FEATURES = (np.arange(6.0).reshape(2, 3), np.ones((2, 3)))
SAID = {"psnr": {"per": "frame"}, "fvd": {"summary": "preset videogpt"}, "kvd": {"summary": "preset videogpt"}}
COMMON = conditions(2, [(6, 16, 20, 3)], {"predictions": "lossless", "truth": "lossless"})


def _row(name: str, **more: Score) -> Scored:
    scores = {"psnr": Score(20.126, (19.0, 21.0), [21.0, 19.25], [19.0, 21.25]), **more}
    return Scored(Method(name, "method", []), scores, {name: FEATURES for name in ("fvd", "kvd") if name in scores})


def _results(rows: list[Scored], missing: list[Missing] | None = None) -> dict:
    return results(
        rows, ["a", "b"], ["1", "2"], conditions=COMMON, metric_conditions=SAID, missing=missing or [], about={"kind": "run"}
    )


def test_results_hold_every_number_beside_its_conditions() -> None:
    sets = {"fvd": Score(112.9, (100.0, 120.0)), "kvd": Score(0.5, None)}
    numbers = _results([_row("fca", **sets), _row("copy", **sets)], [Missing("lpips", "no weights", "fca weights")])
    assert numbers["metrics"] == numbers["rows"][0]["metrics"]
    assert [row["name"] for row in numbers["rows"]] == ["fca", "copy"]
    assert numbers["metrics"]["psnr"]["value"] == 20.126
    assert numbers["metrics"]["psnr"]["interval"] == [19.0, 21.0]
    assert numbers["metrics"]["psnr"]["conditions"] == {"per": "frame"}
    assert numbers["metrics"]["fvd"]["better"] == "lower"
    assert numbers["metrics"]["fvd"]["per_clip"] is None
    assert numbers["missing"] == [{"metric": "lpips", "why": "no weights", "how": "fca weights"}]
    assert (numbers["clips"], numbers["names"], numbers["content"]) == (2, ["a", "b"], ["1", "2"])
    assert {"given_frames", "frames", "scored_frames", "size", "source", "interval"} <= set(numbers["conditions"])


def test_features_lie_where_results_say_and_distances_on_the_same_ones_share_a_file(tmp_path) -> None:
    rows = [_row("fca, step 4", fvd=Score(1.0, None), kvd=Score(1.0, None)), _row("FCA; step 4", fvd=Score(1.0, None))]
    numbers = _results(rows)
    write_features(tmp_path, rows)
    first, second = (row["features"] for row in numbers["rows"])
    assert first["fvd"] == first["kvd"] != second["fvd"]
    with np.load(tmp_path / first["fvd"]) as stored:
        assert (stored["predicted"] == FEATURES[0]).all()
        assert (stored["true"] == FEATURES[1]).all()
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_the_table_says_what_the_numbers_stand_under_and_what_is_missing() -> None:
    rows = [
        _row("fca", fvd=Score(112.9, None), kvd=Score(0.5, None)),
        _row("copy last frame", fvd=Score(9.0, None), kvd=Score(1.0, None)),
    ]
    lost = [Missing("lpips", "no lpips-trunk weights here", "fca weights --fetch lpips-trunk"), Missing("fid", "short", "")]
    text = table(rows, 2, COMMON, SAID, lost)
    lines = text.splitlines()
    assert "PSNR (dB)" in lines[0] and "FVD" in lines[0] and "first / last frame PSNR" in lines[0]
    assert "20.13 [19.00, 21.00]" in lines[2]
    assert "21.00 / 19.25" in lines[2]
    assert "2 clips at 20x16, frames 2..5; the given frames do not count" in text
    assert "FVD, KVD: preset videogpt" in lines
    assert "2 clips are few for FVD, KVD: below 256" in text
    assert "not computed: LPIPS (no weights here); fca weights" in lines
    assert "not computed: FID (short)" in lines


def test_enough_clips_are_not_warned_of() -> None:
    assert "are few" not in table([_row("fca", fvd=Score(1.0, None))], 256, COMMON, SAID)


def test_best_of_stands_apart_from_the_means() -> None:
    best = Score(20.0, None, [20.0], [20.0], {"samples": 3, "value": 23.456, "interval": None, "per_clip": [23.456]})
    text = table([_row("fca", psnr=best)], 1, COMMON, SAID)
    assert "fca: mean of 3 samples; best of 3, chosen by the metric: PSNR 23.46" in text
    assert "23.46" not in text.splitlines()[2]
    assert _results([_row("fca", psnr=best)])["metrics"]["psnr"]["best_of"]["value"] == 23.456


def test_a_wide_table_is_folded_and_repeats_the_rows_names() -> None:
    scores = {name: Score(1.0, (0.5, 1.5), [1.0], [1.0]) for name in METRICS}
    text = table([_row("a method of a long name", **scores)], 2, COMMON, {name: {} for name in METRICS})
    assert sum(line.startswith("a method of a long name") for line in text.splitlines()) >= 3
    assert max(map(len, text.splitlines()[:-1])) <= WIDTH
    for metric in METRICS.values():
        assert metric.title in text


def test_metrics_are_named_by_words_with_commas_in_the_order_of_the_table() -> None:
    assert parse_metrics(["fvd,psnr", " SSIM"]) == ("psnr", "ssim", "fvd")
    with pytest.raises(Misuse, match="no metric 'fdv'; known: psnr"):
        parse_metrics(["fdv"])
    with pytest.raises(Misuse, match="names no metric"):
        parse_metrics([","])


def test_the_miniatures_metrics_are_for_the_miniature_and_seers_kvd_for_who_asks() -> None:
    assert not [name for name in default_metrics(mini=False) if name.startswith("mini")]
    assert {"mini-fvd", "psnr", "fvd"} <= set(default_metrics(mini=True))
    assert "kvd-seer" not in default_metrics(mini=True)


def test_what_the_true_videos_have_stands_where_neither_way_is_better() -> None:
    row = _row("fca", flickering=Score(0.98, None, [0.98], [0.98, 0.98], None, 0.9312))
    said = {**SAID, "flickering": {}}
    assert "neither way is better, the true videos have flickering 0.9312" in table([row], 2, COMMON, said).splitlines()
    numbers = results([row], ["a", "b"], ["1", "2"], conditions=COMMON, metric_conditions=said, missing=[], about={})
    assert (numbers["metrics"]["flickering"]["better"], numbers["metrics"]["flickering"]["truth"]) == ("none", 0.9312)
    assert "truth" not in numbers["metrics"]["psnr"]
