"""The arms of `fca benchmark`: what is compared, on which clips, and the settings that a folder is made with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fcacli.data.manifest import Clip
from fcacli.errors import FcaError, Misuse
from fcacli.model.bases import resolve_base

SEEDS = 3
"""Training seeds of the arms that are not ablations."""
RESERVED, FEW = 64, 64
"""At most so many clips that settings are chosen on, and that an ablation is scored on."""
RATES = (1 / 3, 1.0, 3.0)
"""Learning rates first tried by `--choose`, as multiples of the base's default for that kind of adapter; ascending."""
MOST_RATES = 5
"""Where the best is the lowest or the highest of those tried, the next one is tried too, up to so many."""
TRIAL_SHARE = 4
"""A trial trains a fourth of the steps."""
CURVE_POINTS, CURVE_CLIPS = 8, 4
"""Validations of the runs whose quality is plotted, and clips predicted at each."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the numbers of a folder; another line with other settings is refused."""

    base: str = "mini"
    steps: int = 2000
    """Of every training."""
    clips: int = 4000
    """To train on."""
    scored: int = 256
    """Held-out clips that an arm is scored on; ablations on the first FEW of them."""
    sample_steps: int | None = None
    """Denoising steps of a prediction; None for the base's."""
    choose: bool = False
    """Whether learning rates are chosen first, on reserved clips."""

    @property
    def reserved(self) -> int:
        """First clips of the val split; settings are chosen on them, no table is."""
        return min(RESERVED, self.scored)


Group = Literal["main", "aligned", "more-given", "ablation"]
GROUPS: dict[Group, str] = {
    "main": "16 frames, two given",
    "aligned": "aligned setting: 17 frames, one given",
    "more-given": "more given: 17 frames, nine given",
    "ablation": "FCA with one part changed",
}
LENGTHS: dict[Group, tuple[int, int]] = {"main": (16, 2), "aligned": (17, 1), "more-given": (17, 9), "ablation": (16, 2)}
"""Frames of a clip, and how many of them are given; of 17 frames with one or nine given no latent holds both kinds."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One line of the table."""

    name: str
    """For `--only`, and of its runs."""
    title: str
    group: Group = "main"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of TrainOptions."""
    method: Literal["trained", "base", "copy"] = "trained"
    rate_of: str = ""
    """The arm whose chosen learning rate it takes; "" for its own."""

    @property
    def frames(self) -> int:
        """Of a clip."""
        return LENGTHS[self.group][0]

    @property
    def given(self) -> int:
        """First frames that are given."""
        return LENGTHS[self.group][1]

    @property
    def data(self) -> str:
        """The dataset's name."""
        return f"toy{self.frames}"

    @property
    def many(self) -> bool:
        """Whether it is trained with several seeds."""
        return self.method == "trained" and self.group != "ablation"

    def run(self, seed: int) -> str:
        """The name of its run with that seed."""
        return f"{self.name}-seed{seed}" if self.method == "trained" else self.name


def _changed(name: str, title: str, **fields: Any) -> Arm:
    return Arm(name, title, "ablation", {"adapter_fields": fields}, rate_of="fca")


def _lora(rank: int) -> Arm:
    return Arm(f"lora-{rank}", f"LoRA, rank {rank}", "main", IN_FRONT | {"lora_rank": rank})


IN_FRONT = {"adapter": "lora", "lora_rank": 64}
IN_PLACE = IN_FRONT | {"adapter_fields": {"init": "in_place"}}
ARMS = (
    Arm("base", "base, text only", method="base"),
    Arm("copy", "copy last frame", method="copy"),
    Arm("fca", "FCA"),
    _lora(64),
    _lora(16),
    _lora(96),
    Arm("fca-in-context", "FCA with clean frames in front", "main", {"adapter": "fca-in-context"}),
    Arm("fca-lora", "FCA with LoRA rank 64 on the base", "main", {"adapter": "fca-lora", "lora_rank": 64}),
    Arm("copy-17", "copy last frame", "aligned", method="copy"),
    Arm("fca-17", "FCA", "aligned", rate_of="fca"),
    Arm("lora-in-place-17", "LoRA in place, rank 64", "aligned", IN_PLACE, rate_of="lora-64"),
    Arm("lora-17", "LoRA, rank 64", "aligned", IN_FRONT, rate_of="lora-64"),
    Arm("copy-17-9", "copy last frame", "more-given", method="copy"),
    Arm("fca-17-9", "FCA", "more-given", rate_of="fca"),
    Arm("lora-in-place-17-9", "LoRA in place, rank 64", "more-given", IN_PLACE, rate_of="lora-64"),
    Arm("lora-17-9", "LoRA, rank 64", "more-given", IN_FRONT, rate_of="lora-64"),
    _changed("no-y-frames", "without y_frames", text_modules="none"),
    _changed("no-x-init", "without x_init", init_features="none"),
    _changed("patch-x-init", "x_init as patch-embedded latents", init_features="patch"),
    _changed("no-mask", "without the frame-wise mask", mask="none"),
    _changed("shared-text", "one text module for all layers", text_modules="shared"),
    _changed("text-in-attention", "y_frames and x_init as text of the frozen attention", injection="text"),
    _changed("no-vit", "without ViT patches", image_features="none"),
    _changed("random-projections", "random projections", projections="random"),
    _changed("block-modulation", "the frozen block's modulation", modulation="block"),
    Arm("half-width", "half the width", "ablation", {"adapter_width": 96}, rate_of="fca"),
)
REFERENCE: dict[Group, str] = {"main": "fca", "aligned": "fca-17", "more-given": "fca-17-9", "ablation": "fca"}
"""The arm that the others of a group are compared with, clip by clip."""
COMBINED = ("fca-in-context", "fca-lora")
"""FCA with what LoRA has; these are compared with LORA too."""
LORA = "lora-64"


def compared(group: Group) -> list[tuple[Arm, Arm]]:
    """Pairs of which the difference is shown: FCA and every other arm of the group, the combinations and LoRA."""
    named = {arm.name: arm for arm in ARMS}
    reference = named[REFERENCE[group]]
    pairs = [(reference, arm) for arm in ARMS if arm.group == group and arm is not reference]
    return pairs + [(named[name], named[LORA]) for name in COMBINED if named[name].group == group]


def choose_arms(only: Sequence[str]) -> tuple[Arm, ...]:
    """The arms of these names, all where none is given; in the order of ARMS.

    Raises:
        Misuse: there is no arm of that name.
    """
    if unknown := [name for name in only if name not in {arm.name for arm in ARMS}]:
        raise Misuse(f"--only {unknown[0]}: there is no such arm", "one of " + ", ".join(arm.name for arm in ARMS))
    return tuple(arm for arm in ARMS if not only or arm.name in only)


# ---------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Job:
    """One run: an arm with one seed, or a trial of one learning rate; its row says what came of it."""

    run: str
    arm: Arm
    seed: int
    steps: int
    lr: float | None
    """None for the base's default."""
    clips: slice
    """Of the val split: what it is scored on."""
    curve: bool = False
    """Whether held-out clips are predicted on the way."""
    trial: bool = False
    """Whether it only serves to choose; it may fail."""


def jobs(arms: Iterable[Arm], settings: Settings, seeds: int, chosen: Mapping[str, float]) -> list[Job]:
    """All runs of the arms, the first seed of every arm before the second of any.

    Args:
        chosen: learning rates by arm.
    """
    arms, found = tuple(arms), []
    for seed in range(seeds):
        for arm in arms:
            if seed and not arm.many:
                continue
            count = min(FEW, settings.scored) if arm.group == "ablation" else settings.scored
            found.append(
                Job(
                    run=arm.run(seed),
                    arm=arm,
                    seed=seed,
                    steps=settings.steps,
                    lr=chosen.get(arm.rate_of or arm.name),
                    clips=slice(settings.reserved, settings.reserved + count),
                    curve=arm.many and seed == 0,
                )
            )
    return found


def trials(arms: Iterable[Arm], settings: Settings, best: Mapping[str, float]) -> list[Job]:
    """The runs by which the learning rates of these arms are chosen.

    Args:
        best: by arm, the best rate of the trials so far; beyond one at the edge there is another trial.
    """
    row = resolve_base(settings.base).defaults
    wanted = {arm.rate_of or arm.name for arm in arms if arm.method == "trained"}
    found = []
    for arm in (arm for arm in ARMS if arm.name in wanted):
        default = row.lora_lr if arm.options.get("adapter") == "lora" else row.lr
        for lr in _rates(default, best.get(arm.name)):
            steps = max(1, settings.steps // TRIAL_SHARE)
            run = f"trial-{arm.name}-lr{lr:g}"
            found.append(Job(run, arm, 0, steps, lr, slice(0, settings.reserved), trial=True))
    return found


def _rates(default: float, best: float | None) -> list[float]:
    """Those of RATES, and beyond them one more than the best."""
    factors = list(RATES)
    if best is not None:
        while best >= _rounded(default * factors[-1]) and len(factors) < MOST_RATES:
            factors.append(3 * factors[-1])
        while best <= _rounded(default * factors[0]) and len(factors) < MOST_RATES:
            factors.insert(0, factors[0] / 3)
    return [_rounded(default * factor) for factor in factors]


def _rounded(rate: float) -> float:
    return float(f"{rate:.1g}")


def clips_of(job: Job, data: Path) -> Sequence[Clip]:
    """The held-out clips that a job is scored on.

    Raises:
        FcaError: there are fewer than there should be.
    """
    from fcacli.data.dataset import usable_clips

    clips = usable_clips(data, "val", job.arm.frames)[job.clips]
    if len(clips) != (wanted := job.clips.stop - job.clips.start):
        raise FcaError(f"{data} has {len(clips)} of the {wanted} clips that {job.run} is scored on", "remove it and run again")
    return clips
