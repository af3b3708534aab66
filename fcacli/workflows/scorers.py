"""The networks behind the metrics of a plan, loaded, and the conditions that their numbers stand under."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.evaluation.report import PSNR_CONDITIONS, SSIM_CONDITIONS, frame_conditions
from fcacli.evaluation.scoring import FrameScorer, SetScorer, capped_psnr, ssim_of_predicted
from fcacli.workflows.scoring_plan import Plan


@dataclass(frozen=True)
class Scorers:
    """All that was planned, ready to use."""

    frames: list[FrameScorer]
    sets: list[SetScorer]

    def conditions(self) -> dict[str, dict[str, Any]]:
        """What each metric's numbers stand under."""
        of_frames = {scorer.name: scorer.conditions for scorer in self.frames}
        return of_frames | {scorer.name: scorer.conditions for scorer in self.sets}


Loaded = list[FrameScorer | SetScorer]


def load(plan: Plan, device: str) -> Scorers:
    """Load the networks of a plan.

    Raises:
        FcaError: a file is damaged or holds something else.
    """
    loaders = [loader for names, loader in LOADERS.items() if set(names) & set(plan.names)]
    wanted = [scorer for loader in loaders for scorer in loader(plan, device) if scorer.name in plan.names]
    frames = [scorer for scorer in wanted if isinstance(scorer, FrameScorer)]
    return Scorers(frames, [scorer for scorer in wanted if isinstance(scorer, SetScorer)])


def _pixels(plan: Plan, device: str) -> Loaded:
    from fcacli.evaluation.flickering import CONDITIONS, temporal_flickering

    common = frame_conditions(plan.facts.given)
    flicker = {**common, "pairs": "neighbouring frames of which the later is predicted", "formula": CONDITIONS}
    return [
        FrameScorer("psnr", capped_psnr, common | PSNR_CONDITIONS),
        FrameScorer("ssim", ssim_of_predicted, common | SSIM_CONDITIONS),
        FrameScorer("flickering", lambda p, truth, given, text: temporal_flickering(p[max(given - 1, 0) :]), flicker),
    ]


def _lpips(plan: Plan, device: str) -> Loaded:
    from fcacli.evaluation.lpips import CONDITIONS, Lpips

    network = Lpips(plan.weights["lpips-trunk"], plan.weights["lpips-linear"], device)
    said = {"network": CONDITIONS, **_weights(plan, "lpips-trunk", "lpips-linear")}
    return [
        FrameScorer(
            "lpips", lambda p, truth, given, text: network(p[given:], truth[given:]), frame_conditions(plan.facts.given) | said
        )
    ]


def _clip(plan: Plan, device: str) -> Loaded:
    return _clip_scorers("", plan.weights["clip"], plan, device, _weights(plan, "clip"))


def _mini_clip(plan: Plan, device: str) -> Loaded:
    from fcacli.model.bases import MINI

    return _clip_scorers("mini-", MINI / "clip", plan, device, {"network": "the bundled miniature's; compares with no other"})


def _clip_scorers(prefix: str, folder: Path, plan: Plan, device: str, said: dict[str, Any]) -> Loaded:
    """Both of one CLIP, which sees a prediction once for the two."""
    from fcacli.evaluation.clip_similarity import CONDITIONS, ClipSimilarity

    network = ClipSimilarity(folder, device)
    seen: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))]

    def embedded(video: np.ndarray) -> np.ndarray:
        if seen[0][0] is not video:
            seen[0] = (video, network.embed_frames(video))
        return seen[0][1]

    def with_text(prediction: np.ndarray, truth: np.ndarray, given: int, text: str) -> np.ndarray:
        return embedded(prediction)[given:] @ network.embed_text(text)

    def with_first(prediction: np.ndarray, truth: np.ndarray, given: int, text: str) -> np.ndarray:
        return embedded(prediction)[given:] @ network.embed_frames(truth[:1])[0]

    common = frame_conditions(plan.facts.given) | {"measure": CONDITIONS} | said
    return [
        FrameScorer(f"{prefix}clip-text", with_text, common | {"between": "frame and prompt"}),
        FrameScorer(f"{prefix}clip-init", with_first, common | {"between": "frame and the first given frame"}),
    ]


def _i3d(plan: Plan, device: str) -> Loaded:
    from fcacli.evaluation.fvd import PRESETS, I3DFeatures
    from fcacli.evaluation.kernel import kernel_distance, kernel_distance_seer

    preset = PRESETS[plan.asked.fvd_preset or ""]
    extractor = I3DFeatures(plan.weights["i3d"], preset, device)
    said = preset.conditions() | _weights(plan, "i3d") | _whole_videos(plan)
    said["summary"] = f"preset {preset.name}, {said['frames']}, I3D weights {plan.checked['i3d']}"
    if extractor.trained_eps != preset.eps:
        said["BatchNorm eps"] += f"; these weights were trained with {extractor.trained_eps:g}"
        said["summary"] += f" (trained with BatchNorm eps {extractor.trained_eps:g}, the preset has {preset.eps:g})"
    kernel = {name: value for name, value in said.items() if name not in ("covariance", "trace term")} | KERNEL
    return [
        SetScorer("fvd", extractor, preset.distance, said),
        SetScorer("kvd", extractor, kernel_distance, kernel),
        SetScorer("kvd-seer", extractor, kernel_distance_seer, kernel | {"centred": "as Seer's code has them"}),
    ]


def _mini_sets(plan: Plan, device: str) -> Loaded:
    from fcacli.evaluation.frechet import frechet_distance
    from fcacli.evaluation.kernel import kernel_distance
    from fcacli.mini.features import MiniFeatures

    extractor = MiniFeatures()
    said = {"network": extractor.identity, **_whole_videos(plan)}
    said["summary"] = f"the bundled miniature's network, {said['frames']}; compares with nothing else"
    return [
        SetScorer("mini-fvd", extractor, frechet_distance, {**said, "covariance": "N - 1"}),
        SetScorer("mini-kvd", extractor, kernel_distance, said | KERNEL),
    ]


def _inception(plan: Plan, device: str) -> Loaded:
    from fcacli.evaluation.frechet import frechet_distance
    from fcacli.evaluation.inception import CONDITIONS, InceptionFeatures

    network = InceptionFeatures(plan.weights["inception"], device)
    said = {"features": CONDITIONS, **_weights(plan, "inception"), "frames": "predicted ones of all clips together"}
    said["summary"] = f"of single predicted frames, Inception weights {plan.checked['inception']}"
    return [
        SetScorer("fid", network, frechet_distance, said | {"covariance": "N - 1"}, view=lambda video, given: video[given:])
    ]


KERNEL = {"kernel": "(x.y / D + 1)^3, unbiased, all clips"}


def _weights(plan: Plan, *kinds: str) -> dict[str, Any]:
    """Which files, and whether they are what their source says."""
    return {"weights": {kind: {"file": plan.weights[kind].name, "checksum": plan.checked[kind]} for kind in kinds}}


def _whole_videos(plan: Plan) -> dict[str, Any]:
    """Whether the given frames count in a distance of sets (PROTOCOL.md, "Rules")."""
    if not plan.facts.given:
        return {"frames": "all frames of a clip"}
    whose = "the true ones for every method" if plan.asked.prepend_given else "as each method shows them"
    return {"frames": f"all frames of a clip, the {plan.facts.given} given ones too ({whose})"}


LOADERS: dict[tuple[str, ...], Callable[[Plan, str], Loaded]] = {
    ("psnr", "ssim", "flickering"): _pixels,
    ("lpips",): _lpips,
    ("clip-text", "clip-init"): _clip,
    ("mini-clip-text", "mini-clip-init"): _mini_clip,
    ("fvd", "kvd", "kvd-seer"): _i3d,
    ("fid",): _inception,
    ("mini-fvd", "mini-kvd"): _mini_sets,
}
"""Metrics of one network, and what loads it."""
