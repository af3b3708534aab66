"""The parity gate: what a run has to show before it may go on, checked by the run itself.

Before the first step of a run that starts from a fresh adapter:

    1  the adapter changes nothing yet

At the first validation of every run, with the checkpoint that was just written (validation/<step>/parity.json):

    2  the checkpoint, loaded as `fca predict` loads it, holds the trained tensors, every bit
    3  sampled from it again, the validation's first clip comes out the same
    4  the adapter changes what the model predicts
    5  so does each of its inputs: latents of the given frames, their image features, the caption

The base alone is the transformer without the adapter's modules. The LoRA baseline with clean frames in front, and
fca-in-context, give another result than the base even at step 0, by construction; there 1 and 4 compare with the same call,
frames in front, without the trained layers. v is measured at fixed noise and two time steps, as relative RMS difference.
"The same" is bitwise on the CPU; elsewhere kernels may be chosen anew, and TOLERANCE is allowed. "Changes" is more than the
same call repeated changes.

Training is not touched: its modules and tensors are put aside and back, nothing is drawn from a global generator. The two
adapters are never on a device together.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fcacli.config import AdapterConfig, FCAConfig, InContextFCAConfig, TrainConfig
from fcacli.errors import FcaError, OutOfMemory, naming_memory
from fcacli.events import Message, Report
from fcacli.model.attach import load_adapter, set_aside
from fcacli.model.conditioning import Given
from fcacli.model.fca import FCAAdapter
from fcacli.model.host_memory import in_main_memory
from fcacli.prediction.sampler import sample
from fcacli.training.checkpoint import checkpoint_folder, validation_folder
from fcacli.workspace import write_json

if TYPE_CHECKING:
    from fcacli.workflows.encode.encode import Encoded

PARITY = "parity.json"
TOLERANCE = 1e-2
"""Relative RMS difference that is still "the same" where it is not bitwise: a few roundings to bfloat16."""
LEVELS = (0.3, 0.7)
"""Time steps at which v is compared, as shares of the scheduler's."""
CANDIDATES = 16
"""Clips among which another one is looked for."""


@dataclass(frozen=True)
class Claim:
    """One line of parity.json."""

    claim: str
    value: float
    needs: str
    holds: bool


def same(claim: str, value: float, tolerance: float) -> Claim:
    return Claim(claim, value, f"at most {tolerance:g}", value <= tolerance)


def changes(claim: str, value: float, noise: float) -> Claim:
    return Claim(claim, value, f"more than {noise:g}", value > noise)


@dataclass(frozen=True)
class Gate:
    """The gate of one run."""

    base: Any
    adapter: Any
    """In training, attached to the base."""
    encoded: "Encoded"
    config: TrainConfig
    run: Path
    writes: bool = True
    """Whether this process writes what it found."""

    @naming_memory("the parity gate of step 0", "a smaller --size, --frames or --adapter-width")
    def at_start(self, report: Report) -> None:
        """Claim 1, of a fresh adapter.

        Raises:
            FcaError: the adapter changes the base.
        """
        if isinstance(self.config.adapter, FCAConfig) and self.config.adapter.injection == "text":
            return  # by construction it does
        call = self._call(self.encoded.given("train", 0)[0])
        change = difference(self._v(call), self._v_alone(call))
        self._require(0, [same("a fresh adapter leaves v as it is", change, self._tolerance)])
        report(Message(f"parity at step 0: the adapter changes v by {change:g}", "detail"))

    def at_validation(self, step: int, folder: Path, made: tuple[int, Tensor] | None, report: Report) -> None:
        """Claims 2 to 5, once a run; written into `folder`.

        Args:
            made: place in the val split and latents (F, C, h, w) of the validation's first clip, if there is one.

        Raises:
            FcaError: a claim does not hold; it is named.
        """
        if any(self.run.glob(f"validation/step-*/{PARITY}")):
            return
        given, null = self.encoded.given("val", made[0]) if made else self.encoded.given("train", 0)
        latents = made[1].to(self.base.device) if made else self._sample(self.adapter, given, null, report)
        claims = [*self._of_the_checkpoint(step, given, null, latents, report), *self._of_the_effect(given, null)]
        self._require(step, claims)
        if not self.writes:
            return
        write_json(folder / PARITY, {"step": step, "device": str(self.base.device), "claims": [asdict(c) for c in claims]})
        effects = "; ".join(f"{claim.claim} {claim.value:.2g}" for claim in claims if claim.needs.startswith("more"))
        where = f"runs/{self.run.name}/validation/{validation_folder(self.run, step).name}/{PARITY}"
        passed = "the checkpoint gives the same clip, and what the model is given changes it"
        report(Message(f"parity gate, step {step}: passed, {passed} ({len(claims)} checks, {where})"))
        report(Message(f"parity at step {step}: {effects}", "detail"))

    # ---------------------------------------------------------------- the claims

    def _of_the_checkpoint(self, step: int, given: Given, null: Given, latents: Tensor, report: Report) -> Iterator[Claim]:
        names, parameters = zip(*self.adapter.trainable(), strict=True)
        with in_main_memory(parameters) as trained:
            with set_aside(self.base.transformer):
                loaded = self._load(step)
                state = dict(loaded.trainable())
                different = sum(not torch.equal(state[name].cpu(), own) for name, own in zip(names, trained, strict=True))
                again = self._sample(loaded, given, null, report)
            del loaded, state  # before the trained ones are back
        yield same("tensors of the checkpoint that differ from the trained ones", different, 0)
        yield same("the clip sampled from the checkpoint differs by", difference(again, latents), self._tolerance)

    def _of_the_effect(self, given: Given, null: Given) -> Iterator[Claim]:
        call = self._call(given)
        v = self._v(call)
        noise = difference(self._v(call), v)
        yield changes("the adapter changes v by", difference(v, self._v_alone(call)), noise)
        for name, swapped in self._swapped(call, null):
            yield changes(f"other {name} change v by", difference(self._v(swapped), v), noise)
            if name == INPUTS["text"] and isinstance(self.adapter, FCAAdapter) and self.adapter.text_modules:
                frame_wise = self._frame_wise(swapped.read), self._frame_wise(call.read)
                yield changes(f"other {name} change the frame-wise text by", difference(*frame_wise), 0)

    def _swapped(self, call: "Call", null: Given) -> Iterator[tuple[str, "Call"]]:
        """The call with one input of another clip, for each input that this adapter has."""
        for name in inputs(self.config.adapter):
            if (other := self._another(call.read, name, null)) is None:
                continue  # all clips agree in it
            if name != "text":
                yield INPUTS[name], replace(call, read=replace(call.read, **{name: getattr(other, name)}))
            elif isinstance(self.config.adapter, FCAConfig):  # its own view of the caption; the base still sees the right one
                yield INPUTS[name], replace(call, read=replace(call.read, text=other.text, text_mask=other.text_mask))
            else:  # the caption enters by the base
                yield INPUTS[name], replace(call, text=other.text)

    # ---------------------------------------------------------------- how they are measured

    def _call(self, given: Given) -> "Call":
        base = self.base
        read = self._twice(given)
        noise = torch.randn((1, *base.latent_shape(self.config.clip)), generator=torch.Generator().manual_seed(0))
        steps = torch.tensor([int(level * base.scheduler.config.num_train_timesteps) for level in LEVELS], device=base.device)
        return Call(torch.cat([noise, noise]).to(base.device), steps, read.text, read)

    def _twice(self, given: Given) -> Given:
        return given.cat(given).to(self.base.device)

    @torch.no_grad()
    def _v(self, call: "Call") -> Tensor:
        return self.adapter.denoise(self.base, call.x_t, call.t, call.text, self.adapter.condition(self.base, call.read))

    @torch.no_grad()
    def _frame_wise(self, read: Given) -> Tensor:
        """y_frames of all layers; x_init knows the caption too, so v alone does not tell whether these do."""
        return torch.stack(self.adapter.frame_wise_text(read))

    @torch.no_grad()
    def _v_alone(self, call: "Call") -> Tensor:
        """Without the adapter's modules; LoRA's clean frames stay in front."""
        with set_aside(self.base.transformer):
            if isinstance(self.config.adapter, FCAConfig):
                return self.adapter.denoise_without(self.base, call.x_t, call.t, call.text, call.read)
            return self._v(call)

    def _another(self, read: Given, name: str, null: Given) -> Given | None:
        """The conditions of a clip in which that field is not this one's, or the empty caption's; None where all agree."""
        places = [(split, index) for split, clips in self.encoded.clips.items() for index in range(len(clips))]
        found = (self.encoded.given(split, index)[0] for split, index in places[:CANDIDATES])
        for other in map(self._twice, chain(found, [null])):
            if not torch.equal(getattr(other, name), getattr(read, name)):
                return other
        return None

    def _sample(self, adapter: Any, given: Given, null: Given, report: Report) -> Tensor:
        shape = self.base.latent_shape(self.config.clip)
        return sample(self.base, adapter, given, null, shape, self.config.sample, report)

    def _load(self, step: int) -> Any:
        """New modules draw from the global generator before the file's tensors replace them: its state is put back."""
        devices = [self.base.device] if self.base.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                return load_adapter(self.base, checkpoint_folder(self.run, step))
        except OutOfMemory:
            raise
        except FcaError as error:
            raise FcaError(f"parity gate, step {step}: the checkpoint cannot be loaded: {error.message}", REPORT) from error

    @property
    def _tolerance(self) -> float:
        return 0.0 if self.base.device.type == "cpu" else TOLERANCE

    def _require(self, step: int, claims: list[Claim]) -> None:
        failed = [f"{claim.claim} {claim.value:g}, must be {claim.needs}" for claim in claims if not claim.holds]
        if failed:
            effect = "the adapter has no effect: " if any("more than" in line for line in failed) else ""
            raise FcaError(f"parity gate, step {step} of run {self.run.name}: {effect}{'; '.join(failed)}", REPORT)


@dataclass(frozen=True)
class Call:
    """One call of the model."""

    x_t: Tensor  # (B, F, C, h, w)
    t: Tensor  # (B,)
    text: Tensor  # (B, L, d_text), what the base reads
    read: Given  # what the adapter reads


INPUTS = {
    "init_latents": "latents of the given frames",
    "image": "image features of the given frames",
    "text": "words in the caption",
}
"""Fields of Given."""


def inputs(config: AdapterConfig) -> list[str]:
    """Those that reach the prediction through an adapter of that kind."""
    if not isinstance(config, FCAConfig):
        return ["init_latents", "text"]
    has_text_modules = config.text_modules != "none"
    there = {
        "init_latents": config.init_features != "none" or isinstance(config, InContextFCAConfig),
        "image": has_text_modules and config.image_features != "none",
        "text": has_text_modules or config.init_features == "layer",
    }
    return [name for name, is_there in there.items() if is_there]


def difference(one: Tensor, other: Tensor) -> float:
    """RMS of one - other, relative to that of `other`."""
    one, other = one.double(), other.double()
    return float(((one - other).square().mean() / other.square().mean()).sqrt())


REPORT = "predictions of this run would not be what was trained; check --lr and --set, then fca train --new"
