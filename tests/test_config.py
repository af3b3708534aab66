"""Configs are checked when built and survive a trip through JSON."""

import dataclasses
import json

import pytest

from fcacli.config import ClipConfig, FCAConfig, LoRAConfig, SampleConfig, TrainConfig, differences, from_dict, to_dict
from fcacli.errors import Misuse

CLIP = ClipConfig(frames=16, init_frames=2, width=48, height=48, fps=12.0)
SAMPLE = SampleConfig(steps=20, guidance=3.0)
TRAIN = TrainConfig(
    base="mini",
    base_fingerprint="abc",
    data="ssv2",
    clip=CLIP,
    adapter=FCAConfig(width=192),
    sample=SAMPLE,
    steps=100,
    batch_size=4,
    lr=1e-3,
    warmup=10,
    validate_every=50,
)


@pytest.mark.parametrize("adapter", [FCAConfig(width=64, modulation="block"), LoRAConfig(rank=8), LoRAConfig(alpha=2.0)])
def test_a_config_survives_json(adapter):
    config = dataclasses.replace(TRAIN, adapter=adapter)
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "--steps"),
        ({"batch_size": 0}, "--batch-size"),
        ({"accumulate": 0}, "--accumulate"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": float("nan")}, "--lr"),
        ({"lr": float("inf")}, "--lr"),
        ({"warmup": -1}, "--warmup"),
        ({"validate_every": -1}, "--validate-every"),
        ({"seed": -1}, "--seed"),
        ({"caption_dropout": 1.0}, "--caption-dropout"),
        ({"clip_norm": 0.0}, "--clip-norm"),
        ({"weight_decay": -0.1}, "--weight-decay"),
    ],
)
def test_impossible_training_options_are_named(change, named):
    with pytest.raises(Misuse, match=named):
        dataclasses.replace(TRAIN, **change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"frames": 1}, "--frames"),
        ({"init_frames": 0}, "--init-frames"),
        ({"init_frames": 16}, "--init-frames"),
        ({"width": 8}, "--size"),
        ({"height": 0}, "--size"),
        ({"fps": 0.0}, "--fps"),
        ({"fps": float("inf")}, "--fps"),
    ],
)
def test_impossible_clips_are_named(change, named):
    with pytest.raises(Misuse, match=named):
        dataclasses.replace(CLIP, **change)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"guidance": -1.0}, {"guidance": float("nan")}, {"seed": -1}, {"seed": 2**63}]
)
def test_impossible_sampling_options_are_refused(change):
    with pytest.raises(Misuse):
        dataclasses.replace(SAMPLE, **change)


@pytest.mark.parametrize(
    "change",
    [{"width": 0}, {"text_width": 100, "text_heads": 8}, {"init_features": "none", "text_modules": "none"}, {"text_blocks": 0}],
)
def test_impossible_adapters_are_refused(change):
    with pytest.raises(Misuse):
        FCAConfig(**({"width": 64} | change))


def edited(**change):
    return to_dict(TRAIN) | change


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (edited(colour="red"), "colour"),
        ({k: v for k, v in edited().items() if k != "lr"}, "lr"),
        (edited(steps="many"), "steps"),
        (edited(steps=True), "steps"),
        (edited(steps=1.5), "steps"),
        (edited(optimizer="sgd"), "optimizer"),
        (edited(adapter={"kind": "other"}), "kind"),
        (edited(adapter={"kind": "fca", "width": 64, "mask": "diagonal"}), "mask"),
        (edited(clip=None), "clip"),
        ([], "object"),
        (None, "object"),
    ],
)
def test_a_damaged_config_names_the_field(values, named):
    with pytest.raises(Misuse, match=named):
        from_dict(TrainConfig, values)


def test_whole_numbers_are_accepted_where_a_fraction_is_meant():
    assert from_dict(TrainConfig, edited(lr=1)).lr == 1.0


def test_differences_name_nested_fields():
    other = dataclasses.replace(TRAIN, steps=7, clip=dataclasses.replace(CLIP, frames=17))
    assert differences(TRAIN, other) == ["clip.frames: 16 -> 17", "steps: 100 -> 7"]
    assert differences(TRAIN, TRAIN) == []


def test_differences_between_adapters_of_two_kinds():
    lines = differences(TRAIN, dataclasses.replace(TRAIN, adapter=LoRAConfig()))
    assert "adapter.kind: fca -> lora" in lines


def test_every_field_is_documented():
    """A config is read by people: fields have a sentence beneath them unless their name says it all."""
    import ast
    import inspect

    from fcacli import config

    bare = {"kind", "clip", "adapter", "rank", "optimizer", "weight_decay"}
    for node in ast.parse(inspect.getsource(config)).body:
        if isinstance(node, ast.ClassDef):
            for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(statement, ast.AnnAssign):
                    documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                    assert documented or statement.target.id in bare, f"{node.name}.{statement.target.id}"
