"""`fca eval --protocol seer`: what Seer's published numbers stand under, as far as an evaluation decides it.

Source: PROTOCOL.md, "Protocol of the published numbers".
"""

from dataclasses import replace
from pathlib import Path

from fcacli.config import ClipConfig, SampleConfig
from fcacli.data.sampling import SEER_FRAMES, SEER_SIZE
from fcacli.errors import FcaError
from fcacli.events import Message, Report
from fcacli.workspace import read_json

STEPS, GUIDANCE = 30, 7.5
"""DDIM steps and classifier-free guidance."""
UNBIASED = 2048
"""Clips from which FVD's bias is small (PROTOCOL.md, "FVD", on few samples)."""


def seer_sampling(config: SampleConfig) -> SampleConfig:
    """A run's sampling with Seer's steps and guidance, by DDIM of the base's noise levels."""
    return replace(config, steps=STEPS, guidance=GUIDANCE, sampler="ddim")


def require_seer_data(dataset: Path, config: ClipConfig, report: Report) -> None:
    """Say so where given and total frames, or the size, are not those of Seer's numbers.

    Raises:
        FcaError: the clips were not prepared under Seer's protocol, so that their frames are others.
    """
    about = read_json(dataset / "dataset.json")
    form, reader = about.get("form") or {}, about.get("reader", "")
    if form.get("protocol") != "seer" or form.get("frames") != config.frames:
        raise FcaError(
            f"--protocol seer scores clips of {config.frames} frames prepared with --protocol seer; {dataset} was not",
            f"fca prepare {reader or 'ssv2'} RAW --protocol seer --frames {config.frames} --name {dataset.name}-seer",
        )
    own = (config.init_frames, config.frames)
    given, frames = SEER_FRAMES.get(reader, own)
    if (given, frames, SEER_SIZE, SEER_SIZE) == (*own, config.width, config.height):
        return
    name = dataset.name if frames == config.frames else f"{dataset.name}-{frames}"
    first = "" if name == dataset.name else f"fca prepare {reader} RAW --protocol seer --frames {frames} --name {name}; "
    report(
        Message(
            f"Seer's numbers on {reader or 'such clips'} are of {given} given of {frames} frames at {SEER_SIZE}x{SEER_SIZE}, "
            f"these of {own[0]} of {own[1]} at {config.width}x{config.height} do not compare; {first}"
            f"fca train --new --data {name} --frames {frames} --init-frames {given} --size {SEER_SIZE}x{SEER_SIZE}",
            "warning",
        )
    )


def warn_of_few(clips: int, again: str, report: Report) -> None:
    """Say what the number of clips does to FVD, where they are fewer than its bias wants.

    Args:
        again: what scores more.
    """
    if clips < UNBIASED:
        report(
            Message(
                f"{clips} clips: FVD is the higher the fewer there are (two equal sets have about 117 at 128 clips, "
                f"8 at 2,048; below 256 it is mostly that), so it compares with no number on others; {again}",
                "warning",
            )
        )
