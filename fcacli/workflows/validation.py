"""The clips of a validation: held-out clips predicted by the adapter as it is, by what `fca predict` calls."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli.config import TrainConfig, to_dict
from fcacli.data.dataset import sample_frames
from fcacli.data.manifest import Clip
from fcacli.errors import FcaError
from fcacli.evaluation.frame import psnr
from fcacli.events import Event, Message, Progress, Report
from fcacli.prediction.pictures import Group, Row, contact_sheet
from fcacli.prediction.sampler import decode, sample
from fcacli.prediction.video import enlarge, view_factor, write_mp4, write_png, write_pngs
from fcacli.training.team import Team
from fcacli.workspace import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from fcacli.workflows.encode.encode import Encoded
    from fcacli.workflows.parity import Gate

Validate = Callable[[int, Path, Report], dict[str, float]]
Truth = tuple[int, Clip, np.ndarray]
"""Place in the val split, clip, and pixels."""


def make_validation(
    base: Any,
    adapter: Any,
    encoded: "Encoded",
    dataset: Path,
    config: TrainConfig,
    gate: "Gate",
    team: Team,
    report: Report,
) -> Validate:
    """A callable (step, folder, report) that predicts the first `config.validate_clips` held-out clips, each process of the
    team its share, and writes of each

        <clip>.mp4      the prediction, enlarged to be looked at
        <clip>/         its exact frames, 000.png ...
        <clip>.json     text and sampling: `fca predict` from this step's checkpoint gives the same frames

    and clips.png, predictions below the truth. It returns the mean PSNR of the frames that were not given. What text and
    image encoder give is read from the cache; the VAE is loaded while it decodes. The first of a run is also its parity gate,
    which every process passes.
    """
    truths = list(_truths(encoded.clips["val"][: config.validate_clips], dataset, config, report))
    mine = team.share(truths)

    def validate(step: int, folder: Path, report: Report) -> dict[str, float]:
        def sampled() -> list["Tensor"]:
            return [
                _sample(base, adapter, encoded, index, config, _part_of(report, f"validation, step {step}", n, len(mine)))
                for n, (index, _, _) in enumerate(mine)
            ]

        latents = team.own(sampled)
        first = team.by_main(lambda: (mine[0][0], latents[0].cpu()) if mine else None)
        team.own(lambda: gate.at_validation(step, folder, first, _part_of(report, f"parity gate, step {step}", 0, 1)))

        def decoded() -> list[np.ndarray]:
            given, parts = config.clip.init_frames, zip(mine, latents, strict=True)
            frames = [decode(base, latent, config.clip, truth[:given]) for (_, _, truth), latent in parts]
            base.unload("vae")
            return frames

        predictions = team.in_turn(len(truths), decoded)
        return team.by_main(_write_all, step, folder, truths, predictions, config)

    return validate


def _write_all(
    step: int, folder: Path, truths: Sequence[Truth], predictions: Sequence[np.ndarray], config: TrainConfig
) -> dict[str, float]:
    """Every clip, and all of them in one picture; the mean PSNR."""
    given, scores, groups = config.clip.init_frames, [], []
    for (_, clip, truth), prediction in zip(truths, predictions, strict=True):
        _write(folder, clip, prediction, config)
        scores.append(float(psnr(prediction, truth)[given:].mean()))
        groups.append(Group(clip.text, [Row("truth", truth, given), Row(f"step {step}", prediction, given)]))
    if not groups:
        return {}
    write_png(folder / "clips.png", contact_sheet(groups))
    return {"psnr": sum(scores) / len(scores)}


def _truths(clips: Sequence[Clip], dataset: Path, config: TrainConfig, report: Report) -> Iterator[Truth]:
    """Those of the clips whose video is still there."""
    for index, clip in enumerate(clips):
        try:
            yield index, clip, sample_frames(dataset, "val", clip, config.clip)
        except FcaError as error:
            report(Message(f"{error.message}; no validation clip of it", "warning"))


def _sample(base: Any, adapter: Any, encoded: "Encoded", index: int, config: TrainConfig, report: Report) -> "Tensor":
    given, null = encoded.given("val", index)
    return sample(base, adapter, given, null, base.latent_shape(config.clip), config.sample, report)


def _write(folder: Path, clip: Clip, prediction: np.ndarray, config: TrainConfig) -> None:
    factor = view_factor(config.clip.width, config.clip.height)
    write_mp4(folder / f"{clip.id}.mp4", enlarge(prediction, factor), config.clip.fps)
    write_pngs(folder / clip.id, prediction)
    write_json(folder / f"{clip.id}.json", {"text": clip.text, "clip": clip.file_name, "sampling": to_dict(config.sample)})


def _part_of(report: Report, phase: str, number: int, count: int) -> Report:
    """The progress of one clip's denoising as that of the whole validation."""

    def as_part(event: Event) -> None:
        if isinstance(event, Progress) and event.total:
            event = Progress(phase, number * event.total + event.done, count * event.total)
        report(event)

    return as_part
