"""The frozen base's memory on a CUDA device: the same bits with swapped blocks, the bytes that were planned."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from wide_base import drawn, write_wide_base

from fcacli.config import BaseWeights, ClipConfig, FCAConfig, Keeping, SampleConfig
from fcacli.model.attach import attach, save_adapter
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.frozen_memory import frozen_bytes
from fcacli.model.host_memory import in_main_memory
from fcacli.prediction.sampler import decode, encode_given_once, sample
from fcacli.training.activations import keep_inputs_in_main_memory
from fcacli.workflows.plan_prediction import OFFLOADS
from fcacli.workflows.train_options import TrainOptions, resolve
from fcacli.workflows.trained import Trained

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
FCA = FCAConfig(width=256, tokens_per_frame=3, text_width=16, text_heads=2, text_blocks=1)
LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> Path:
    return write_wide_base(tmp_path_factory.mktemp("base"), write_base, LAYERS)


def kept(folder: Path, keeping: Keeping) -> CogVideoX:
    base = load_base(resolve_base(str(folder)), "cuda", torch.bfloat16)
    base.keep(keeping)
    return base


def gradients(base: CogVideoX) -> list[torch.Tensor]:
    """Of two training steps, so that buffers are used again."""
    torch.manual_seed(0)
    adapter = attach(base, FCA, CLIP)
    for layer in adapter.parallel_modules:
        layer.to_out.weight.data.copy_(torch.randn(layer.to_out.weight.shape) * 0.02)  # drawn on the CPU, wherever it lies
    torch.manual_seed(1)
    for _ in range(2):
        x_t, t, given = drawn(side=8)
        with torch.autocast("cuda", torch.bfloat16):
            adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).float().square().mean().backward()
    return [parameter.grad for _, parameter in adapter.trainable()]


@pytest.mark.parametrize("weights", ["full", "fp8", "int8", "nf4"])
def test_waiting_in_main_memory_changes_no_bit(folder: Path, weights: BaseWeights) -> None:
    plain = kept(folder, Keeping(base_weights=weights))
    plain.transformer.enable_gradient_checkpointing()
    expected = gradients(plain)
    for count in (1, 3, LAYERS):
        base = kept(folder, Keeping(base_weights=weights, block_swap=count))
        keep_inputs_in_main_memory(base.transformer)
        assert all(torch.equal(*pair) for pair in zip(gradients(base), expected, strict=True))


def requested() -> int:
    """Bytes of tensors, without what the allocator leaves over in blocks of a megabyte."""
    gc.collect()
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


@pytest.mark.parametrize("weights", ["full", "fp8", "int8", "nf4"])
@pytest.mark.parametrize("count", [0, 3])
def test_the_planned_bytes_are_allocated(folder: Path, weights: BaseWeights, count: int) -> None:
    keeping = Keeping(base_weights=weights, block_swap=count)
    bare = load_base(resolve_base(str(folder)), dtype=torch.bfloat16)
    planned = frozen_bytes(bare.transformer, keeping, torch.bfloat16)
    before = requested()
    base = kept(folder, keeping)
    assert base.transformer is not None
    assert abs(requested() - before - planned.device) < 0.01 * planned.device


def test_a_prediction_is_the_same_bits_whatever_waits(folder: Path, tmp_path: Path) -> None:
    """And the device holds less of it, the text encoder's blocks aside."""
    made = load_base(resolve_base(str(folder)), "cuda", torch.bfloat16)
    adapter = attach(made, FCA, CLIP)
    for layer in adapter.parallel_modules:
        torch.nn.init.normal_(layer.to_out.weight, std=0.02)
    save_adapter(adapter, tmp_path, made.spec.name, made.fingerprint, CLIP)
    config = resolve(TrainOptions(), made.spec, made.fingerprint, "", True)
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    videos, peaks = [], []
    for offload in OFFLOADS:
        base = load_base(made.spec, "cuda", torch.bfloat16)
        given = encode_given_once(base, frames, "a")
        loaded = Trained(tmp_path, tmp_path, 0, config, base).load(offload)
        torch.cuda.reset_peak_memory_stats()
        latents = sample(base, loaded, *given, base.latent_shape(CLIP), SampleConfig(steps=3, guidance=2.0))
        peaks.append(torch.cuda.max_memory_allocated())
        videos.append(decode(base, latents, CLIP, None))
        del base, given, loaded, latents
    assert all(np.array_equal(video, videos[0]) for video in videos[1:])
    assert peaks[0] > peaks[1] > peaks[2]


def test_parameters_are_away_for_a_while_and_come_back_as_they_were() -> None:
    """As the parity gate has those of the adapter in training, while the checkpoint's is there."""
    parameters = [torch.nn.Parameter(torch.randn(1024, 1024, device="cuda")) for _ in range(4)]
    before, taken = [parameter.detach().cpu() for parameter in parameters], torch.cuda.memory_allocated()
    hooks = [parameter.view_as(parameter).grad_fn.next_functions[0][0] for parameter in parameters]  # where DDP hangs on
    with in_main_memory(parameters):
        assert taken - torch.cuda.memory_allocated() == 4 * 1024 * 1024 * 4
    assert torch.cuda.memory_allocated() == taken
    assert all(torch.equal(parameter.detach().cpu(), tensor) for parameter, tensor in zip(parameters, before, strict=True))
    assert hooks == [parameter.view_as(parameter).grad_fn.next_functions[0][0] for parameter in parameters]
