"""Claims about `fca train` with trained weights in bfloat16 and the optimizer's state in host memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from listening import Listener, crash, equal, weights
from test_parity import result_of

from fcacli.errors import Misuse
from fcacli.training import checkpoint
from fcacli.workflows.predict import predict
from fcacli.workflows.train import train
from fcacli.workflows.train_options import as_arguments

HALF = {"weights": "bf16", "precision": "bf16", "offload_optimizer": True}
KINDS = {"fca": {}, "lora": {"adapter": "lora", "lora_rank": 2}, "text": {"adapter_fields": {"injection": "text"}}}


@pytest.mark.parametrize("kind", KINDS)
def test_validation_and_predict_give_the_same_clip_and_the_gate_holds(workspace, asked, kind):
    """Bitwise, on a float32 base; the adapter is saved in bfloat16, as it was validated."""
    from fcacli.data.dataset import sample_frames
    from fcacli.prediction.video import read_pngs, write_pngs
    from fcacli.workflows.encode.encode import choose_clips

    result = train(workspace, replace(asked, **HALF, **KINDS[kind], steps=2), gpus=0)
    assert result.finished and {tensor.dtype for tensor in weights(result.run).values()} == {torch.bfloat16}
    assert all(claim["holds"] for claim in result_of(result.run, 2)["claims"])
    config = checkpoint.read_config(result.run)
    clip = choose_clips(workspace.dataset(), config.clip)["val"][0]
    given = sample_frames(workspace.dataset(), "val", clip, config.clip)[: config.clip.init_frames]
    write_pngs(workspace.root / "given", given)
    afresh = predict(workspace, workspace.root / "given", clip.text, device="cpu")
    validated = read_pngs(checkpoint.validation_folder(result.run, 2) / clip.id)
    assert np.array_equal(read_pngs(afresh.folder / "frames"), validated)


def test_a_killed_run_goes_on_under_its_own_options_bit_for_bit(workspace, asked):
    asked = replace(asked, **HALF, optimizer="adamw8bit")
    straight = train(workspace, asked, gpus=0, run="straight")
    crash(workspace, asked, 3, run="resumed", new=True)
    result = train(workspace, gpus=0, run="resumed")
    assert result.finished and equal(weights(straight.run), weights(result.run))
    config = checkpoint.read_config(result.run)
    assert (config.weights, config.offload_optimizer) == ("bf16", True)


@pytest.mark.parametrize("before, after", [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_fork_may_keep_its_weights_in_another_type(workspace, asked, before, after):
    """It starts from the source's weights, rounded where they have to be, and goes on after a crash."""
    dtype = torch.float32 if after == "fp32" else torch.bfloat16
    first = train(workspace, replace(asked, precision="bf16", weights=before, steps=1), gpus=0, run="first")
    with pytest.raises(KeyboardInterrupt):
        asked = replace(asked, precision="bf16", weights=after, steps=2)
        train(workspace, asked, gpus=0, fork="first", run="second", report=Listener(1))
    run = workspace.run("second")
    start = weights(run)
    assert checkpoint.step_of(checkpoint.latest(run)) == 0
    assert equal(start, {name: tensor.to(dtype) for name, tensor in weights(first.run).items()})
    result = train(workspace, gpus=0)
    assert result.run == run and result.finished
    assert {tensor.dtype for tensor in weights(run).values()} == {dtype} and not equal(weights(run), start)


def test_pages_are_refused_on_the_cpu_before_anything_is_encoded(workspace, asked):
    with pytest.raises(Misuse, match="pages that CUDA moves, and this is the CPU") as refused:
        train(workspace, replace(asked, optimizer="paged-adamw8bit"), gpus=0)
    assert refused.value.hint == "--optimizer adamw8bit"
    assert not workspace.all_runs()


def test_options_are_written_as_they_are_typed(asked):
    words = as_arguments(replace(asked, **HALF, checkpointing=False)).split()
    assert {"--offload-optimizer", "--no-checkpointing"} <= set(words)
    assert words[words.index("--weights") + 1] == "bf16"
