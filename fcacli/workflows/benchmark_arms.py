"""The arms of `fca benchmark`: what is compared, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcacli.data.dataset import usable_clips
from fcacli.data.manifest import Clip

STEPS, TRAIN_CLIPS, SCORED, FEW, CHOSEN_ON = 2000, 4000, 256, 64, 64
"""Steps; clips to train on; clips scored for an arm with three seeds, and with one; clips that settings are chosen on."""


@dataclass(frozen=True)
class Arm:
    """One line of the table."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of TrainOptions."""
    seeds: int = 1
    frames: int = 16
    """16 with two given, or 17 with one: the aligned setting, where a latent holds the given frame alone."""

    @property
    def clips(self) -> int:
        """How many are scored."""
        return SCORED if self.seeds > 1 else FEW

    @property
    def given(self) -> int:
        """First frames that are given."""
        return 2 if self.frames == 16 else 1

    @property
    def data(self) -> str:
        """The dataset's name."""
        return f"toy{self.frames}"

    def runs(self) -> list[str]:
        """Their names."""
        plain = self.name.replace(" ", "-").replace(",", "")
        return [f"{plain}-seed{seed}" for seed in range(self.seeds)]


def _changed(**fields: Any) -> dict[str, Any]:
    return {"adapter_fields": fields}


ARMS = (
    Arm("fca", seeds=3),
    *(Arm(f"lora rank {rank}", {"adapter": "lora", "lora_rank": rank}, seeds=3) for rank in (16, 64, 96)),
    Arm("fca 17 frames", seeds=3, frames=17),
    Arm("lora in place 17 frames", {"adapter": "lora", "lora_rank": 64, **_changed(init="in_place")}, seeds=3, frames=17),
    Arm("fca without y_frames", _changed(text_modules="none")),
    Arm("fca without x_init", _changed(init_features="none")),
    Arm("fca with patch features", _changed(init_features="patch")),
    Arm("fca without mask", _changed(mask="none")),
    Arm("fca with shared text module", _changed(text_modules="shared")),
    Arm("fca without vit", _changed(image_features="none")),
    Arm("fca with random projections", _changed(projections="random")),
    Arm("fca with block modulation", _changed(modulation="block")),
    Arm("fca with half width", {"adapter_width": 96}),
)
BASE, COPY = "base, text only", "copy last frame"


def scored_clips(data: Path, arm: Arm) -> list[Clip]:
    """Of the held-out clips, those that no setting was chosen on."""
    return usable_clips(data, "val", arm.frames)[CHOSEN_ON : CHOSEN_ON + arm.clips]
