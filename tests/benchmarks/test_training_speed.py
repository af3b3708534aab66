"""How much longer a training step is with FCA than with LoRA, and than the floor, on the bundled miniature, and what
--compile takes off it; run with -m benchmark.

The floor is the frozen base's own forward and backward pass, through its activations alone.
"""

import time
from statistics import median

import pytest
import torch

from fcacli.config import Keeping
from fcacli.model.arithmetic import computes_bf16
from fcacli.model.attach import attach
from fcacli.model.bases import load_base, resolve_base
from fcacli.training.kernels import step_kernels
from fcacli.training.objective import diffusion_loss, draw
from fcacli.training.optim import make_optimizer
from fcacli.workflows.train_options import TrainOptions, resolve

ROUNDS = 5


def steps_of(kind, compiled=False):
    """A function that takes one whole training step of the miniature's defaults on random encodings."""
    base = load_base(resolve_base("mini"))
    base.keep(Keeping(compile=compiled))
    config = resolve(TrainOptions(adapter=kind), base.spec, base.fingerprint, "none", computes_bf16("cpu"))
    torch.manual_seed(0)
    adapter = attach(base, config.adapter, config.clip)
    optimizer = make_optimizer(adapter.trainable(), config)
    parameters = [parameter for _, parameter in adapter.trainable()]
    shape, size = base.latent_shape(config.clip), config.batch_size
    encoder, text_width = base.config("image_encoder"), base.config("transformer")["text_embed_dim"]
    patches = config.clip.init_frames * (encoder["image_size"] // encoder["patch_size"]) ** 2
    batch = {
        "latents": torch.randn(size, *shape),
        "init_latents": torch.randn(size, 1, *shape[1:]),
        "image": torch.randn(size, patches, encoder["hidden_size"]),
        "text": torch.randn(size, base.text_length, text_width),
        "text_mask": torch.arange(base.text_length).expand(size, -1) < 6,
    }
    null = (torch.zeros(base.text_length, text_width), torch.arange(base.text_length) < 1)
    device = torch.device("cpu")

    def step(number):
        drawn = draw(0, number, range(size), size, shape, 1000, config.caption_dropout)
        with step_kernels(config, device):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
                loss = diffusion_loss(base, adapter, batch, null, drawn).mean()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step(number)

    return step


def floor_of():
    """A function that takes the base's own forward and backward pass at the same batch."""
    base = load_base(resolve_base("mini"))
    config = resolve(TrainOptions(), base.spec, base.fingerprint, "none", computes_bf16("cpu"))
    text_width = base.config("transformer")["text_embed_dim"]
    x = torch.randn(config.batch_size, *base.latent_shape(config.clip), requires_grad=True)
    text, t = torch.randn(config.batch_size, base.text_length, text_width), torch.arange(config.batch_size) * 60

    def step(number):
        with step_kernels(config, torch.device("cpu")):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
                loss = base.denoise(x, t, text).float().square().mean()
            loss.backward()

    return step


def by_turns(steps, warming):
    """Processor seconds of each: the median step after the first `warming` ones, and the first; in turn, so that all see the
    same machine."""
    taken = {kind: [] for kind in steps}
    for number in range(warming + ROUNDS):
        for kind, step in steps.items():
            start = time.process_time()
            step(number)
            taken[kind].append(time.process_time() - start)
    return {kind: (median(times[warming:]), times[0]) for kind, times in taken.items()}


@pytest.mark.benchmark
def test_training_step_is_at_most_1_8_times_that_of_lora():
    """Whole steps at the same batch."""
    taken = by_turns({kind: steps_of(kind) for kind in ("fca", "lora")} | {"floor": floor_of()}, warming=1)
    fca, lora, floor = (taken[kind][0] for kind in ("fca", "lora", "floor"))
    print(f"\ntraining step, mini, batch 16: FCA {1000 * fca:.0f} ms, LoRA {1000 * lora:.0f} ms, {fca / lora:.2f}x")
    print(f"floor {1000 * floor:.0f} ms: FCA {fca / floor:.2f}x, LoRA {lora / floor:.2f}x; threads: {torch.get_num_threads()}")
    assert fca <= 1.8 * lora


@pytest.mark.benchmark
def test_what_compiling_takes_off_a_training_step():
    """A step and the compilation itself, which is in the first one; other processes that compile do not count."""
    steps = {f"{kind}{', compiled' * compiled}": steps_of(kind, compiled) for kind in ("fca", "lora") for compiled in (0, 1)}
    taken = by_turns(steps, warming=2)
    for kind in ("fca", "lora"):
        (plain, _), (compiled, first) = taken[kind], taken[f"{kind}, compiled"]
        print(f"\n{kind}, mini, batch 16: {1000 * plain:.0f} ms, compiled {1000 * compiled:.0f} ms, {plain / compiled:.2f}x;")
        print(f"the first compiled step {first:.0f} s of processor time")
        assert compiled < 1.05 * plain
