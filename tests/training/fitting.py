"""Small real runs of `fit` on the tiny random base, on random encodings in memory."""

from pathlib import Path

import torch

from fcacli.config import ClipConfig, FCAConfig, LoRAConfig
from fcacli.events import Progress
from fcacli.model.attach import attach, detach, load_adapter, save_adapter
from fcacli.training import checkpoint
from fcacli.training.loop import ALONE, Session, Subject, fit

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
FCA = FCAConfig(width=32, tokens_per_frame=2, text_width=16, text_heads=2, text_blocks=1)
LORA = LoRAConfig(rank=4)


def clips(count: int, seed: int = 0) -> list[dict]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        {
            "id": f"clip-{seed}-{number}",
            "latents": normal(4, 4, 8, 8),
            "init_latents": normal(1, 4, 8, 8),
            "image": normal(32, 16),
            "text": normal(12, 24),
            "text_mask": torch.arange(12) < 3 + number % 8,
        }
        for number in range(count)
    ]


def run_fit(base, config, run: Path, report=lambda event: None, data=None, validate=None, team=ALONE, **session):
    """Fit like the workflow does: the newest checkpoint's adapter, or a fresh one."""
    detach(base.transformer)
    newest = checkpoint.latest(run)
    torch.manual_seed(config.seed)
    adapter = load_adapter(base, newest) if newest else attach(base, config.adapter, config.clip)
    generator = torch.Generator().manual_seed(5)
    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=data or clips(5),
        held_out=clips(3, seed=1),
        null=(torch.randn(12, 24, generator=generator), torch.arange(12) < 1),
        validate=validate,
    )
    run.mkdir(exist_ok=True)
    return fit(subject, config, run, Session(**session), report, team)


class StopAt:
    """A report that stops the run after a step, as a crash would: nothing more is saved."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, event):
        if isinstance(event, Progress) and event.phase == "train" and event.done == self.step:
            raise KeyboardInterrupt


def weights(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint.latest(run) / "adapter.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()
