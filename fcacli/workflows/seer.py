"""`fca eval --protocol seer`: what Seer's published numbers stand under, as far as an evaluation decides it.

Source: PROTOCOL.md, "Protocol of the published numbers".
"""

from dataclasses import replace
from pathlib import Path

from fcacli.config import ClipConfig, SampleConfig
from fcacli.data.sampling import SEER_FRAMES
from fcacli.errors import FcaError
from fcacli.events import Message, Report
from fcacli.workspace import read_json

STEPS, GUIDANCE = 30, 7.5
"""DDIM steps and classifier-free guidance."""


def seer_sampling(config: SampleConfig) -> SampleConfig:
    """A run's sampling with Seer's steps and guidance, on the base's own scheduler."""
    return replace(config, steps=STEPS, guidance=GUIDANCE, sampler="base")


def require_seer_data(dataset: Path, config: ClipConfig, report: Report) -> None:
    """Say so where given and total frames are not those of Seer's numbers.

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
    published = SEER_FRAMES.get(reader)
    if published and published != (config.init_frames, config.frames):
        report(
            Message(
                f"Seer's numbers on {reader} are of {published[0]} given of {published[1]} frames, "
                f"these of {config.init_frames} of {config.frames}",
                "warning",
            )
        )
