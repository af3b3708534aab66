"""Which metrics are computed: what is there, what is asked for, what the clips allow; all said before anything is predicted."""

from dataclasses import replace
from pathlib import Path

import pytest

from fcacli.errors import FcaError, Misuse
from fcacli.evaluation import weights
from fcacli.events import Event, Message, silent
from fcacli.workflows.scoring_plan import Facts, Scoring, plan, under_protocol

FACTS = Facts(given=2, shapes=[(16, 64, 64, 3)] * 4, prompts=True, mini=False)
PIXELS = ("psnr", "ssim", "flickering")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Names of the weights that this machine seems to have."""
    names: set[str] = set()
    monkeypatch.setattr(weights, "find_weights", lambda name, folder: tmp_path / name if name in names else None)
    monkeypatch.setattr(weights, "check_weights", lambda name, path: "verified")
    return names


def _missing(scoring: Scoring, facts: Facts = FACTS) -> dict[str, str]:
    return {one.metric: one.why for one in plan(scoring, facts, silent).missing}


def test_without_weights_the_rest_is_computed_and_what_is_missing_is_said_with_how_to_get_it(there: set[str]) -> None:
    found = plan(Scoring(), FACTS, silent)
    assert found.names == PIXELS
    assert {one.metric for one in found.missing} == {"lpips", "clip-text", "clip-init", "fvd", "kvd", "fid"}
    assert {one.how for one in found.missing if one.metric == "fvd"} == {"fca weights --fetch fvd"}


def test_what_has_its_weights_is_computed_unasked(there: set[str], tmp_path: Path) -> None:
    there.update({"i3d", "lpips-trunk"})
    found = plan(Scoring(), FACTS, silent)
    assert found.names == ("psnr", "ssim", "flickering", "fvd", "kvd")
    assert found.weights["i3d"] == tmp_path / "i3d"
    assert found.checked == {"i3d": "verified"}
    assert _missing(Scoring())["lpips"] == "no lpips-linear weights here"


def test_the_miniature_brings_its_own_under_their_own_names(there: set[str]) -> None:
    names = plan(Scoring(), replace(FACTS, mini=True), silent).names
    assert names == (*PIXELS, "mini-clip-text", "mini-clip-init", "mini-fvd", "mini-kvd")


def test_i3d_given_by_hand_is_taken(there: set[str], tmp_path: Path) -> None:
    with pytest.raises(FcaError, match=r"--i3d .*mine\.pt is not a file"):
        plan(Scoring(i3d=tmp_path / "mine.pt"), FACTS, silent)
    (tmp_path / "mine.pt").write_bytes(b"")
    assert plan(Scoring(i3d=tmp_path / "mine.pt"), FACTS, silent).weights == {"i3d": tmp_path / "mine.pt"}


def test_named_metrics_that_cannot_be_computed_are_warned_of_and_none_at_all_is_an_error(there: set[str]) -> None:
    events: list[Event] = []
    assert plan(Scoring(metrics=("psnr", "fvd")), FACTS, events.append).names == ("psnr",)
    assert [event.level for event in events if isinstance(event, Message)] == ["warning"]
    with pytest.raises(FcaError, match="FVD cannot be computed: no i3d weights here"):
        plan(Scoring(metrics=("fvd",)), FACTS, silent)


@pytest.mark.parametrize(
    ("metric", "facts", "why"),
    [
        ("clip-text", {"prompts": False}, "no prompts"),
        ("clip-init", {"given": 0}, "no frame is given"),
        ("ssim", {"shapes": [(16, 10, 64, 3)] * 4}, "SSIM's window is 11x11"),
        ("lpips", {"shapes": [(16, 64, 30, 3)] * 4}, "31x31"),
        ("flickering", {"shapes": [(1, 64, 64, 3)] * 4, "given": 0}, "one frame does not flicker"),
        ("fvd", {"shapes": [(8, 64, 64, 3)] * 4}, "I3D needs 9 frames, a clip has 8"),
        ("kvd", {"shapes": [(16, 64, 64, 3)]}, "one clip is no set"),
        ("fid", {"shapes": [(16, 64, 64, 3), (12, 64, 64, 3)]}, "differ in length"),
    ],
)
def test_clips_that_a_metric_says_nothing_of(there: set[str], metric: str, facts: dict, why: str) -> None:
    there.update(weights.WEIGHTS)
    assert metric not in _missing(Scoring())
    assert why in _missing(Scoring(), replace(FACTS, **facts))[metric]


def test_seers_protocol_sets_all_at_once_and_bears_no_contradiction(there: set[str]) -> None:
    there.add("i3d")
    found = plan(under_protocol(Scoring(protocol="seer")), FACTS, silent)
    assert found.asked.prepend_given
    assert found.asked.fvd_preset == "videogpt"
    assert {"fvd", "kvd-seer"} <= set(found.names)
    assert "kvd-seer" not in plan(Scoring(), FACTS, silent).names
    with pytest.raises(Misuse, match="another protocol"):
        under_protocol(Scoring(protocol="seer", fvd_preset="tf"))
    with pytest.raises(Misuse, match="there is no 'pytorch'; known"):
        under_protocol(Scoring(fvd_preset="pytorch"))
