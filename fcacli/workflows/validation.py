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
from fcacli.workspace import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from fcacli.workflows.encode.encode import Encoded
    from fcacli.workflows.parity import Gate

Validate = Callable[[int, Path, Report], dict[str, float]]


def make_validation(
    base: Any, adapter: Any, encoded: "Encoded", dataset: Path, config: TrainConfig, gate: "Gate", report: Report
) -> Validate:
    """A callable (step, folder, report) that predicts the first `config.validate_clips` held-out clips and writes of each

        <clip>.mp4      the prediction, enlarged to be looked at
        <clip>/         its exact frames, 000.png ...
        <clip>.json     text and sampling: `fca predict` from this step's checkpoint gives the same frames

    and clips.png, predictions below the truth. It returns the mean PSNR of the frames that were not given. What text and
    image encoder give is read from the cache; the VAE is loaded while it decodes. The first of a run is also its parity gate.
    """
    truths = list(_truths(encoded.clips["val"][: config.validate_clips], dataset, config, report))

    def validate(step: int, folder: Path, report: Report) -> dict[str, float]:
        latents = [
            _sample(base, adapter, encoded, index, config, _part_of(report, f"validation, step {step}", n, len(truths)))
            for n, (index, _, _) in enumerate(truths)
        ]
        first = (truths[0][0], latents[0]) if truths else None
        gate.at_validation(step, folder, first, _part_of(report, f"parity gate, step {step}", 0, 1))
        given, scores, groups = config.clip.init_frames, [], []
        for latent, (_, clip, truth) in zip(latents, truths, strict=True):
            prediction = decode(base, latent, config.clip, truth[:given])
            _write(folder, clip, prediction, config)
            scores.append(float(psnr(prediction, truth)[given:].mean()))
            groups.append(Group(clip.text, [Row("truth", truth, given), Row(f"step {step}", prediction, given)]))
        base.unload("vae")
        if not groups:
            return {}
        write_png(folder / "clips.png", contact_sheet(groups))
        return {"psnr": sum(scores) / len(scores)}

    return validate


def _truths(
    clips: Sequence[Clip], dataset: Path, config: TrainConfig, report: Report
) -> Iterator[tuple[int, Clip, np.ndarray]]:
    """Place in the val split, clip and pixels of those whose video is still there."""
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
