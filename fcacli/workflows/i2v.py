"""`fca eval --i2v`: a pre-trained image-to-video pipeline, as it is, on the same clips.

It sees the last given frame and the prompt, and makes its own number of frames at its own size with its own settings. Of these
P + 1 at equal spacing are taken, from the first, which is that given frame, to the last: the action it was asked for, whole, as
the true clip shows the whole action. The true given frames stand in front. The frame that it sees is stretched to its size, and
what it makes is stretched back; the row says from which aspect ratio to which.

    data/<name>/cache/i2v-predictions/     its predictions, shared by all runs
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.config import ClipConfig, SampleConfig
from fcacli.data.manifest import Clip
from fcacli.data.resize import resize, resize_frame
from fcacli.errors import FcaError, Misuse, memory_of, naming_memory
from fcacli.events import Message, Report, silent, track
from fcacli.model.bases.hub import PIPELINE_FILES, fingerprint, local_folder
from fcacli.training.team import Team
from fcacli.workflows.generation import GivenFrames, Job, hand_out, missing, share_of, shared_jobs
from fcacli.workflows.lock import locked
from fcacli.workflows.trained import choose_device
from fcacli.workspace import Workspace, read_json

NAMES = {"cogvideox-5b-i2v": "zai-org/CogVideoX-5b-I2V", "cogvideox1.5-5b-i2v": "zai-org/CogVideoX1.5-5B-I2V"}
"""Short name -> hub id."""
CLASS = "CogVideoXImageToVideoPipeline"
STEPS, GUIDANCE = 50, 6.0
"""The pipeline's own defaults."""


@dataclass(frozen=True)
class Pipeline:
    """An image-to-video pipeline on this machine."""

    name: str
    folder: Path
    device: str

    def identity(self) -> dict[str, Any]:
        """What decides its pixels, but for clip and seed."""
        return {
            "pipeline": self.name,
            "fingerprint": fingerprint(self.folder),
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
            "frames": "its own number at its own size; of these P + 1 at equal spacing, from the last given frame on",
        }

    def own_size(self) -> tuple[int, int]:
        """Width and height that it is asked for, by its configuration.

        Raises:
            FcaError: that does not say.
        """
        transformer, vae = (read_json(self.folder / part / "config.json") for part in ("transformer", "vae"))
        try:
            scale = 2 ** (len(vae["block_out_channels"]) - 1)  # as the pipeline computes it
            return transformer["sample_width"] * scale, transformer["sample_height"] * scale
        except (KeyError, TypeError):
            raise FcaError(f"--i2v {self.name}: its configuration states no size", "fetch the folder again") from None

    def stretched(self, config: ClipConfig) -> str:
        """What becomes of a frame's aspect ratio on the way into it and back."""
        (width, height), size = self.own_size(), f"{config.width}x{config.height}"
        if width * config.height == height * config.width:
            return f"{size} -> {width}x{height} -> {size}, the aspect ratio kept"
        ratios = f"aspect ratio {config.width / config.height:.2f} -> {width / height:.2f}"
        return f"stretched {size} -> {width}x{height} -> {size}, {ratios} and back: it sees a distorted frame"

    @property
    def dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"


def find_pipeline(name: str, device: str) -> Pipeline:
    """The pipeline of a short name, hub id or folder.

    Raises:
        Misuse: it is none of these.
        FcaError: it cannot be fetched, or is a pipeline of another kind.
    """
    source = NAMES.get(name.lower(), name)
    if not Path(source).is_dir() and (source.count("/") != 1 or source.startswith((".", "/")) or source.endswith("/")):
        raise Misuse(
            f"--i2v {name}: not a folder, a hub id (owner/name) or one of {', '.join(NAMES)}", "--i2v cogvideox-5b-i2v"
        )
    folder = local_folder(source, PIPELINE_FILES)
    index = folder / "model_index.json"
    kind = read_json(index).get("_class_name") if index.is_file() else "no pipeline in diffusers layout"
    if kind != CLASS:
        raise FcaError(f"--i2v {name} is {kind}; a {CLASS} is needed", "--i2v cogvideox-5b-i2v")
    return Pipeline(source, folder, device)


def pipeline_jobs(
    pipeline: Pipeline, config: ClipConfig, clips: Sequence[Clip], seeds: Sequence[int], folder: Path
) -> list[list[Job]]:
    """Its clips, those of each seed."""
    shape = {name: getattr(config, name) for name in ("frames", "init_frames", "width", "height", "fit")}
    found = []
    for seed in seeds:
        sampling = SampleConfig(steps=STEPS, guidance=GUIDANCE, seed=seed)
        settings = {"clip": shape, "sampling": {"steps": STEPS, "guidance": GUIDANCE, "seed": seed}}
        found.append(shared_jobs(pipeline.identity() | settings, sampling, clips, folder))
    return found


def generate_by_pipeline(
    pipeline: Pipeline, config: ClipConfig, jobs: Sequence[Job], given_of: GivenFrames, team: Team, report: Report
) -> None:
    """Predict the clips that are not there yet. Called by the main process; the others are in `assist`."""
    if left := missing(jobs, report):
        row = PipelineRow(pipeline, config, left, given_of)
        hand_out(row, team, report)
        row.predict(team, report)


@dataclass(frozen=True)
class PipelineRow:
    """Clips that every process predicts a share of."""

    pipeline: Pipeline
    config: ClipConfig
    jobs: list[Job]
    given_of: GivenFrames

    def join(self, workspace: Workspace, device: str | None, team: Team) -> None:
        """The share of another process than the main one."""
        replace(self, pipeline=replace(self.pipeline, device=str(choose_device(device)))).predict(team, silent)

    def predict(self, team: Team, report: Report) -> None:
        """This process's share; returns when all have done theirs.

        Raises:
            FcaError: in all, what one of them has raised.
        """
        place = self.jobs[0].folder.parent
        with ExitStack() as held:
            team.by_main(lambda: held.enter_context(locked(place, f"{place} is being written", waiting=report)))
            team.by_all(self._predict, [job for job in share_of(self.jobs, self.jobs, team) if not job.done()], report)

    def _predict(self, jobs: Sequence[Job], report: Report) -> None:
        report(Message(f"also {self.pipeline.name} ({self.pipeline.device}, {self.pipeline.dtype})"))
        loaded = _load(self.pipeline)
        for job in track(jobs, report, "predict, image to video"):
            with naming_memory(
                f"clip {job.clip} of --i2v", "end other programs, or --device cpu; fca eval goes on with this clip"
            ):
                job.write(predict(loaded, self.given_of(job.clip), job.text, self.config, job.sampling))


def predict(pipe: Any, given: np.ndarray, text: str, config: ClipConfig, sampling: SampleConfig) -> np.ndarray:
    """The clip uint8 (T, H, W, 3) that a loaded pipeline makes of the last of the given frames (K, H, W, 3) and the text."""
    import torch
    from PIL import Image

    settings = pipe.transformer.config
    scale = pipe.vae_scale_factor_spatial
    width, height = settings.sample_width * scale, settings.sample_height * scale
    made = pipe(
        image=Image.fromarray(resize_frame(given[-1], width, height, "stretch")),
        prompt=text,
        width=width,
        height=height,
        num_frames=settings.sample_frames,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
        generator=torch.Generator("cpu").manual_seed(sampling.seed),
        max_sequence_length=settings.max_text_seq_length,
        output_type="np",
    ).frames[0]  # (n, height, width, 3) in [0, 1]
    wanted = np.rint(np.linspace(0, len(made) - 1, config.frames - len(given) + 1)).astype(int)[1:]
    followed = np.rint(255 * np.clip(made[wanted], 0, 1)).astype(np.uint8)
    return np.concatenate([given, resize(followed, config.width, config.height, "stretch")])


def _load(pipeline: Pipeline) -> Any:
    """
    Raises:
        FcaError: a part is missing or damaged.
    """
    import diffusers
    import torch

    diffusers.utils.logging.disable_progress_bar()
    try:
        pipe = diffusers.CogVideoXImageToVideoPipeline.from_pretrained(
            pipeline.folder, torch_dtype=getattr(torch, pipeline.dtype), local_files_only=True, use_safetensors=True
        )
    except Exception as error:
        if memory_of(error):
            raise
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise FcaError(f"cannot load --i2v {pipeline.name}: {cause}", "fetch the folder again") from error
    pipe.set_progress_bar_config(disable=True)
    if pipeline.device != "cpu":
        pipe.enable_model_cpu_offload(device=pipeline.device)
        pipe.vae.enable_tiling()
    return pipe
