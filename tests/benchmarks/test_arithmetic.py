"""What the adapter adds to the base's multiply-adds at the real shapes, counted on tensors without content, written to
results/arithmetic.md; run with -m benchmark. What that is in time on the miniature: test_training_speed.py.

The floor of a training step is the frozen base's own forward and backward pass, through its activations alone; all steps
recompute blocks in the backward pass (gradient checkpointing). A denoising step has both halves of guidance.
"""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fcacli.config import ClipConfig, FCAConfig, LoRAConfig
from fcacli.model.attach import attach, detach
from fcacli.model.bases import resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.conditioning import Given
from fcacli.planning.fakes import CountingFakes
from fcacli.planning.live import Meter
from fcacli.planning.shaped import ShapedBase, shaped_base
from fcacli.planning.training import at_depth
from fcacli.training.objective import Draw, diffusion_loss

RESULTS = Path(__file__).parent / "results" / "arithmetic.md"
CASES = [
    ("cogvideox-2b", (16, 256, 256)),
    ("cogvideox-2b", (49, 480, 720)),
    ("cogvideox-5b", (16, 256, 256)),
    ("cogvideox-5b", (49, 480, 720)),
    ("cogvideox1.5-5b", (16, 256, 256)),
]
ALLOWED = {1: 1.25, 2: 1.15, 4: 1.08}
"""Of a denoising step, against the base alone, by the share of the base's width."""


def counted(call: Callable[[], Any]) -> int:
    """Multiply-adds of the matrix products, twice each; attention as its two plain products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def inputs(base: CogVideoX, clip: ClipConfig, batch: int) -> tuple[Given, torch.Tensor]:
    frames, channels, height, width = base.latent_shape(clip)
    given = Given(
        init_latents=torch.zeros(batch, 1, channels, height, width),
        text=torch.zeros(batch, base.text_length, base.config("transformer")["text_embed_dim"]),
        text_mask=torch.ones(batch, base.text_length, dtype=torch.bool),
        image=torch.zeros(batch, clip.init_frames * 256, base.config("image_encoder")["hidden_size"]),
    )
    return given, torch.zeros(batch, frames, channels, height, width)


def floor(base: CogVideoX, clip: ClipConfig) -> None:
    given, x_t = inputs(base, clip, 1)
    output = base.denoise(x_t.requires_grad_(True), torch.zeros(1, dtype=torch.int64), given.text)
    output.float().square().mean().backward()


def training_step(base: CogVideoX, adapter: Any, clip: ClipConfig) -> None:
    given, x_0 = inputs(base, clip, 1)
    batch = {name: getattr(given, name) for name in ("init_latents", "text", "text_mask", "image")} | {"latents": x_0}
    drawn = Draw(torch.zeros(1, dtype=torch.int64), torch.zeros_like(x_0), torch.zeros(1, dtype=torch.bool))
    diffusion_loss(base, adapter, batch, (given.text[0], given.text_mask[0]), drawn).mean().backward()


@torch.no_grad()
def of_sampling(base: CogVideoX, adapter: Any, clip: ClipConfig) -> dict[str, int]:
    """A denoising step, and what is computed once a clip."""
    given, x_t = inputs(base, clip, 2)
    conditioning = adapter.condition(base, given)
    step = counted(lambda: adapter.denoise(base, x_t, torch.zeros(2, dtype=torch.int64), given.text, conditioning))
    return {"denoising": step, "once": counted(lambda: adapter.condition(base, given))}


def width_of(base: CogVideoX, share: int) -> int:
    """One part in `share` of the base's width, in whole heads."""
    return base.d // share // base.head_dim * base.head_dim


def fca_config(base: CogVideoX, width: int) -> FCAConfig:
    row = base.spec.defaults
    text = {name: getattr(row, name) for name in ("tokens_per_frame", "text_width", "text_heads", "text_blocks")}
    return FCAConfig(width=width, **text)


def at_layers(shaped: ShapedBase, clip: ClipConfig, layers: int) -> dict[str, int]:
    """All figures of a transformer of so many layers."""
    with CountingFakes(Meter()):
        base = shaped.again(layers)
        base.transformer.enable_gradient_checkpointing()
        given, x_t = inputs(base, clip, 2)
        found = {"base/floor": counted(lambda: floor(base, clip))}
        with torch.no_grad():
            found["base/denoising"] = counted(lambda: base.denoise(x_t, torch.zeros(2, dtype=torch.int64), given.text))
        for share in ALLOWED:
            adapter = attach(base, fca_config(base, width_of(base, share)), clip)
            found |= {f"{share}/{name}": size for name, size in of_sampling(base, adapter, clip).items()}
            found[f"{share}/step"] = counted(lambda adapter=adapter: training_step(base, adapter, clip))
            detach(base.transformer)
        lora = attach(base, LoRAConfig(rank=64), clip)
        found |= {f"lora/{name}": size for name, size in of_sampling(base, lora, clip).items()}
        found["lora/step"] = counted(lambda: training_step(base, lora, clip))
    return found


def rows_of(name: str, shape: tuple[int, int, int]) -> tuple[list[str], dict[int, float]]:
    """Lines of the table, and the ratio of a denoising step by share of the width."""
    spec, (frames, height, width) = resolve_base(name), shape
    clip = ClipConfig(frames=frames, init_frames=2, width=width, height=height, fps=8)
    shaped = shaped_base(spec, "cuda")
    found = at_depth(lambda layers: at_layers(shaped, clip, layers), shaped.layers)
    lines, ratios = [], {}
    kinds = {**{str(share): f"FCA, width {width_of(shaped, share)}" for share in ALLOWED}, "lora": "LoRA, rank 64"}
    for key, kind in kinds.items():
        ratio = found[f"{key}/denoising"] / found["base/denoising"]
        once = found[f"{key}/once"] / found["base/denoising"]
        step = found[f"{key}/step"] / found["base/floor"]
        lines.append(f"| {name}, {frames}x{height}x{width} | {kind} | {ratio:.3f} | {once:.3f} | {step:.3f} |")
        if key != "lora":
            ratios[int(key)] = ratio
    return lines, ratios


@pytest.mark.benchmark
def test_a_denoising_step_adds_at_most_its_share_of_multiply_adds() -> None:
    lines, ratios = [], {}
    for name, shape in CASES:
        of_case, ratios[name, shape] = rows_of(name, shape)
        lines += of_case
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=RESULTS.parent)
    title = "# Multiply-adds of matrix products, relative to the base's\n\n"
    how = f"Counted on tensors without content: no hardware is in these figures. torch {torch.__version__}, "
    how += f"commit {git.stdout.strip()}, {datetime.now(UTC).date()}.\n{(__doc__ or '').split(chr(10) * 2)[1].strip()}\n\n"
    head = "| base, T x H x W | adapter | denoising step | once a clip, in denoising steps of the base | training step |\n"
    RESULTS.write_text(title + how + head + "|---|---|---|---|---|\n" + "\n".join(lines) + "\n")
    print("\n" + RESULTS.read_text(), file=sys.stderr)
    for case, of_case in ratios.items():
        for share, ratio in of_case.items():
            assert ratio <= ALLOWED[share], (case, share)
