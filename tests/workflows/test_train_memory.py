"""Options that save memory: what they leave as it is, how far the others move a training, and that predict follows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from listening import crash, weights

from fcacli.config import BaseWeights, Offload
from fcacli.data.dataset import sample_frames
from fcacli.events import silent
from fcacli.prediction.sampler import predict_clip
from fcacli.prediction.video import read_pngs
from fcacli.training import checkpoint
from fcacli.workflows.encode.encode import choose_clips
from fcacli.workflows.train import TrainResult, train
from fcacli.workflows.train_options import TILED_ABOVE, TrainOptions, as_arguments
from fcacli.workflows.trained import Trained, find_trained
from fcacli.workspace import Workspace, read_json

WAITING = [{"block_swap": 1}, {"block_swap": 2, "adapter": "lora"}, {"offload_activations": True}]
ROUNDED: dict[BaseWeights, float] = {"int8": 0.001, "fp8": 0.003, "nf4": 0.01}
"""How far the loss of a step may move on the random base, relative."""


def name_of(options: object) -> str:
    return "-".join(map(str, options.values())) if isinstance(options, dict) else str(options)


def losses(result: TrainResult) -> np.ndarray:
    lines = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    return np.array([line["loss"] for line in lines if "loss" in line])


def predicted(trained: Trained, workspace: Workspace, adapter: object) -> tuple[str, np.ndarray]:
    """Id and prediction of the first validation clip."""
    config = trained.config
    clip = choose_clips(workspace.dataset(), config.clip)["val"][0]
    given = sample_frames(workspace.dataset(), "val", clip, config.clip)[: config.clip.init_frames]
    return clip.id, predict_clip(trained.base, adapter, given, clip.text, config.clip, config.sample)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", WAITING, ids=name_of)
def test_where_things_wait_changes_no_bit(workspace: Workspace, asked: TrainOptions, options: dict) -> None:
    plain = replace(asked, checkpointing=True, adapter=options.get("adapter"))
    expected = train(workspace, plain, gpus=0, run="plain")
    result = train(workspace, replace(plain, **options), gpus=0, run="waiting")
    a, b = weights(expected.run), weights(result.run)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert (expected.run / "log.jsonl").read_bytes() == (result.run / "log.jsonl").read_bytes()


def test_rounded_weights_move_the_loss_of_twenty_steps_little(workspace: Workspace, asked: TrainOptions) -> None:
    twenty = replace(asked, steps=20, validate_every=0, validate_clips=0, optimizer="adamw", lr=3e-3)
    expected = losses(train(workspace, twenty, gpus=0, run="plain"))
    for weights_, tolerance in ROUNDED.items():
        found = losses(train(workspace, replace(twenty, base_weights=weights_), gpus=0, run=weights_))
        assert 0 < np.abs(found / expected - 1).max() < tolerance, weights_


EVERY = [*({"base_weights": weights} for weights in ("int8", "fp8", "nf4")), {"vae_tiling": True}]


ADAPTERS = [{"adapter": "fca-lora"}, {"adapter": "lora", "block_swap": 1, "checkpointing": True}]


@pytest.mark.parametrize(
    "options", [*EVERY, *ADAPTERS, {"base_weights": "nf4", "block_swap": 1, "checkpointing": True}], ids=name_of
)
def test_predict_shows_what_validation_shows_offloaded_or_not(workspace: Workspace, asked: TrainOptions, options: dict) -> None:
    """Bitwise; the gate has held. The CPU stands in the place of the device."""
    result = train(workspace, replace(asked, steps=2, **options), gpus=0)
    gate = read_json(next(result.run.glob("validation/*/parity.json")))
    assert all(claim["holds"] for claim in gate["claims"])
    decides = {name: value for name, value in options.items() if name in ("base_weights", "vae_tiling")}
    hows: list[Offload] = ["none", "model", "sequential"]
    for how in hows:
        trained = find_trained(workspace, None, None, "cpu", silent)
        assert decides.items() <= trained.identity().items()
        name, video = predicted(trained, workspace, trained.load(how))
        assert np.array_equal(video, read_pngs(checkpoint.validation_folder(result.run, 2) / name)), how


def test_a_run_with_all_of_them_goes_on_as_if_nothing_had_been(workspace: Workspace, asked: TrainOptions) -> None:
    frugal = {"base_weights": "nf4", "block_swap": 1, "offload_activations": True, "checkpointing": True}
    options = replace(asked, validate_every=0, **frugal)  # type: ignore[arg-type]
    straight = train(workspace, options, gpus=0, run="straight")
    crash(workspace, options, 3, run="resumed", checkpoint_minutes=0)
    resumed = train(workspace, gpus=0, run="resumed")
    a, b = weights(straight.run), weights(resumed.run)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert (straight.run / "log.jsonl").read_bytes() == (resumed.run / "log.jsonl").read_bytes()


def test_a_config_from_before_has_the_base_in_full(workspace: Workspace, asked: TrainOptions) -> None:
    result = train(workspace, replace(asked, steps=2), gpus=0)
    saved: dict = read_json(Path(result.run, "config.json"))
    for name in ("base_weights", "block_swap", "offload_activations", "vae_tiling"):
        del saved["config"][name]
    Path(result.run, "config.json").write_text(json.dumps(saved))
    trained = find_trained(workspace, None, None, "cpu", silent)
    assert trained.base.keeping == type(trained.base.keeping)()
    assert not {"base_weights", "vae_tiling"} & set(trained.identity())


@pytest.mark.parametrize(("size", "tiled"), [(256, False), (384, True)])
def test_large_frames_are_decoded_in_tiles_unless_told(tiny_base_folder: Path, size: int, tiled: bool) -> None:
    from fcacli.model.bases import resolve_base
    from fcacli.workflows.train_options import resolve

    assert (size * size > TILED_ABOVE) == tiled
    spec = resolve_base(str(tiny_base_folder))
    for options, expected in [(TrainOptions(), tiled), (TrainOptions(vae_tiling=not tiled), not tiled)]:
        assert resolve(replace(options, width=size, height=size), spec, "0", "toy", False).vae_tiling is expected


def test_the_options_are_written_as_they_are_typed() -> None:
    options = TrainOptions(base_weights="nf4", block_swap=3, offload_activations=True, vae_tiling=False, checkpointing=True)
    typed = "--base-weights nf4 --block-swap 3 --checkpointing --offload-activations --no-vae-tiling"
    assert as_arguments(options) == typed
