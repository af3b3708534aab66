"""Claims about what goes wrong while `fca train` runs: memory that ends is named by phase, a file that vanishes by its path."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from listening import equal, weights

from fcacli.data import cache as data_cache
from fcacli.errors import FcaError, naming_memory
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.training import checkpoint, loader, loop
from fcacli.workflows.predict import predict
from fcacli.workflows.train import train


def too_much(*_, **__):
    """torch's own refusal: more than any machine has."""
    torch.empty(1 << 56, dtype=torch.uint8)


def in_encoding(monkeypatch, workspace):
    shutil.rmtree(workspace.dataset() / "cache")
    monkeypatch.setattr(CogVideoX, "encode_video", too_much)


def in_a_step(monkeypatch, workspace):
    monkeypatch.setattr(loop, "diffusion_loss", too_much)


def in_the_held_out_loss(monkeypatch, workspace):
    monkeypatch.setattr(loop, "held_out_loss", too_much)


def in_decoding(monkeypatch, workspace):
    monkeypatch.setattr(CogVideoX, "decode", too_much)


CASES = [
    (in_encoding, "out of memory in encode videos: ", "--size"),
    (in_a_step, "out of memory in training step 1: ", "--batch-size"),
    (in_the_held_out_loss, "out of memory in the held-out loss of step 2: ", "--batch-size"),
    (in_decoding, "out of memory in the validation of step 2, decoding: ", "--validate-clips 0"),
]


@pytest.mark.parametrize("full, said, hint", CASES, ids=[case[0].__name__ for case in CASES])
def test_memory_that_ends_is_named_by_phase_with_what_to_change(workspace, asked, full, said, hint, monkeypatch):
    full(monkeypatch, workspace)
    with pytest.raises(FcaError) as stopped:
        train(workspace, replace(asked, adapter="lora", lora_rank=2), gpus=0)
    assert stopped.value.message.startswith(said) and "allocate" in stopped.value.message
    assert hint in stopped.value.hint and stopped.value.code == 1


def test_memory_that_ends_while_saving_is_no_full_disk(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(FcaError, match="out of memory in saving step 7: "):
        checkpoint.save(tmp_path, checkpoint.State(step=7, log_bytes=0, train_loss=None), too_much, optimizer)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    "method, phase", [("denoise", "denoising"), ("decode", "decoding"), ("encode_init", "encoding the given")]
)
def test_predict_names_its_phase_too(workspace, asked, tmp_path, method, phase, monkeypatch):
    from fcacli.prediction.video import write_pngs

    train(workspace, replace(asked, steps=1), gpus=0)
    write_pngs(tmp_path / "frames", np.zeros((2, 32, 32, 3), np.uint8))
    monkeypatch.setattr(CogVideoX, method, too_much)
    with pytest.raises(FcaError, match=f"out of memory in {phase}"):
        predict(workspace, tmp_path / "frames", "lifting box", device="cpu")


class OutOfMemoryError(RuntimeError):
    """As torch's, of a CUDA device."""


@pytest.mark.parametrize(
    "error, where",
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "GPU memory"),
        (RuntimeError("CUDA error: out of memory"), "GPU memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "GPU memory"),
        (MemoryError(), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (OSError(12, "Cannot allocate memory"), "memory"),
    ],
    ids=str,
)
def test_what_full_memory_is_called(error, where):
    with pytest.raises(FcaError, match=f"^out of {where} in this: ") as stopped, naming_memory("this", "that"):
        raise error
    assert stopped.value.hint == "that"


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="shapes"), naming_memory("this", "that"):
        raise RuntimeError("shapes differ")
    with pytest.raises(OSError, match="No space"), naming_memory("this", "that"):
        raise OSError(28, "No space left on device")


LIMITED = """
import resource, sys
import torch, diffusers, transformers, accelerate, bitsandbytes, peft
from fcacli.cli.app import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), used + (3 << 30)))
sys.argv = ["fca", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_a_process_whose_memory_really_ends_says_so(workspace, asked):
    """Three gigabytes more than it starts with, and batches that need more."""
    options = [
        "train",
        "--gpus",
        "0",
        "--base",
        asked.base,
        "--batch-size",
        "30000",
        "--precision",
        "fp32",
        "--no-checkpointing",
        "--force",  # whatever else runs on this machine
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *options],
        cwd=workspace.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "error: out of memory in training step 1: " in done.stderr
    assert "--batch-size" in done.stderr and "Traceback" not in done.stderr


def test_an_encoded_clip_that_vanishes_stops_the_run_saved_and_train_goes_on_exactly(workspace, asked, monkeypatch):
    """What is mapped already stays readable; here each clip has a shard of its own, which is mapped when it is first read."""
    cache = workspace.dataset() / "cache"
    shutil.rmtree(cache)

    def one_by_one():
        monkeypatch.setattr(loader, "IN_MEMORY", 0)
        monkeypatch.setattr(data_cache, "SHARD_BYTES", 1)

    one_by_one()
    options = replace(asked, validate_every=0, steps=8, batch_size=1)
    straight = train(workspace, options, gpus=0, run="straight", workers=0)
    monkeypatch.setattr(loop, "_gradients", vanishing(loop._gradients, cache))
    with pytest.raises(FcaError, match=r"is missing or damaged; stopped at step [123], saved in ") as stopped:
        train(workspace, options, gpus=0, run="robbed", workers=0)
    assert str(cache) in stopped.value.message and "fca train encodes it again and goes on" in stopped.value.hint
    monkeypatch.undo()
    one_by_one()
    result = train(workspace, gpus=0, workers=1)
    assert result.run.name == "robbed" and result.finished
    assert equal(weights(result.run), weights(straight.run))
    assert (result.run / "log.jsonl").read_bytes() == (straight.run / "log.jsonl").read_bytes()


def vanishing(inner, cache):
    """Every file of the cache is gone from the second step on."""

    def gradients(*arguments):
        if gradients.step == 1:
            for path in cache.rglob("*.safetensors"):
                path.unlink()
        gradients.step += 1
        return inner(*arguments)

    gradients.step = 0

    return gradients
