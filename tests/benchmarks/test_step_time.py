"""What a denoising step takes in time at the real widths, against the base alone, on the CPU; written to results/step_time.md.

Real blocks with random weights, one and two of them; a block more is what a block takes, and the published number of blocks
is worked out from that. Each adapter and the base alone take turns. Both halves of guidance; LoRA is not merged.

Run with -n 0 -s -m benchmark.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from test_arithmetic import ALLOWED, fca_config, inputs, width_of

from fcacli.config import ClipConfig, LoRAConfig
from fcacli.model.arithmetic import computes_bf16
from fcacli.model.attach import attach, set_aside
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.published import published
from fcacli.workflows.benchmark.conditions import circumstances

RESULTS = Path(__file__).parent / "results" / "step_time.md"
CASES = [("cogvideox-2b", (16, 256, 256)), ("cogvideox-5b", (16, 256, 256))]
ROUNDS = 7
Calls = dict[str, Callable[[], Any]]


def base_of(folder: Path, name: str, layers: int, dtype: torch.dtype) -> CogVideoX:
    """The transformer with random weights and so few blocks; of the other parts the configuration is all that is read."""
    from diffusers import CogVideoXTransformer3DModel

    fields = {key: value for key, value in published(name).items() if not key.startswith("_")} | {"num_layers": layers}
    torch.manual_seed(0)
    CogVideoXTransformer3DModel(**fields).to(dtype).save_pretrained(folder / "transformer")
    for part, source in (("vae", "vae"), ("text_encoder", "t5-v1_1-xxl"), ("clip", "clip-vit-large-patch14")):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(published(source)))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "CogVideoXPipeline"}))
    return load_base(resolve_base(str(folder)), dtype=dtype)


def seconds_of(calls: Calls) -> dict[str, float]:
    """Median processor seconds of each, taken by turns, after one that chooses kernels."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            taken[name] += [time.process_time() - started] * bool(turn)
    return {name: median(values) for name, values in taken.items()}


@torch.no_grad()
def step_times(folder: Path, name: str, shape: tuple[int, int, int], layers: int, dtype: torch.dtype) -> dict[str, float]:
    """Seconds of a denoising step by the base alone, by FCA of each width and by LoRA, each beside the base."""
    frames, height, width = shape
    clip = ClipConfig(frames=frames, init_frames=2, width=width, height=height, fps=8)
    base = base_of(folder, name, layers, dtype)
    given, x_t = inputs(base, clip, 2)
    given, x_t, t = given.to(dtype=dtype), x_t.to(dtype), torch.tensor([500, 500])
    found: dict[str, float] = {}
    configs = {str(share): fca_config(base, width_of(base, share)) for share in ALLOWED} | {"lora": LoRAConfig(rank=64)}
    for key, config in configs.items():
        base.unload("transformer")
        adapter: Any = attach(base, config, clip)
        if key != "lora":
            adapter.only_sample(dtype)
        conditioning = adapter.condition(base, given)

        def alone(adapter: Any = adapter) -> None:
            with set_aside(base.transformer):
                base.denoise(x_t, t, given.text)

        def adapted(adapter: Any = adapter, conditioning: Any = conditioning) -> None:
            adapter.denoise(base, x_t, t, given.text, conditioning)

        taken = seconds_of({"base": alone, "adapted": adapted})
        found |= {f"{key}/base": taken["base"], key: taken["adapted"]}
    return found


@pytest.mark.benchmark
def test_a_denoising_step_takes_at_most_its_share_of_time(tmp_path: Path) -> None:
    threads, lines, late = torch.get_num_threads(), [], []
    dtype = torch.bfloat16 if computes_bf16("cpu") else torch.float32
    torch.set_num_threads(1)
    for name, shape in CASES:
        one, two = (step_times(tmp_path / f"{name}-{layers}", name, shape, layers, dtype) for layers in (1, 2))
        layers, width = published(name)["num_layers"], published(name)["num_attention_heads"] * 64
        whole = {key: one[key] + (layers - 1) * (two[key] - one[key]) for key in one}
        for key in (*map(str, ALLOWED), "lora"):
            kind = "LoRA, rank 64" if key == "lora" else f"FCA, width {width // int(key) // 64 * 64}"
            ratio, block = whole[key] / whole[f"{key}/base"], two[key] - one[key]
            allowed = "" if key == "lora" else f"{ALLOWED[int(key)]:.2f}"
            lines.append(
                f"| {name}, {'x'.join(map(str, shape))} | {kind} | {two[f'{key}/base'] - one[f'{key}/base']:.3f} "
                f"| {block:.3f} | {ratio:.3f} | {allowed} |"
            )
            late += [lines[-1]] if key != "lora" and ratio > ALLOWED[int(key)] else []
    torch.set_num_threads(threads)
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=RESULTS.parent)
    about = f"{circumstances('cpu')['hardware'].split(',')[0]}, 1 thread, {str(dtype).removeprefix('torch.')}, "
    about += f"torch {torch.__version__}, commit {git.stdout.strip()}, {datetime.now(UTC).date()}"
    head = (
        "| base, T x H x W | adapter | s/block, base | s/block, adapted | step / base's step | our target |\n"
        + "|---" * 6
        + "|\n"
    )
    title, how = "# Time of a denoising step at the real widths, on a CPU", (__doc__ or "").split("\n\n")[1].strip()
    RESULTS.write_text(f"{title}\n\n{about}. Not measured on a GPU.\n{how}\n\n{head}" + "\n".join(lines) + "\n")
    print("\n" + RESULTS.read_text(), file=sys.stderr)
    assert not late, late
