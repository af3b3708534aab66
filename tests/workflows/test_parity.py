"""Claims about the parity gate: sound runs pass it once, each broken part of one is caught and named, training is untouched."""

import json
from dataclasses import replace

import pytest
import torch
from listening import Listener, crash, equal, weights

from fcacli.config import FCAConfig, LoRAConfig
from fcacli.errors import FcaError
from fcacli.model import attach as attaching
from fcacli.model.attach import attach, load_adapter, save_adapter, set_aside
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.fca import FCAAdapter, FCALayer
from fcacli.model.lora import LoRAAdapter
from fcacli.model.qformer import FrameText
from fcacli.training import checkpoint
from fcacli.workflows import parity
from fcacli.workflows.train import train

KINDS = {"fca": {}, "lora": {"adapter": "lora", "lora_rank": 2}}


def result_of(run, step):
    return json.loads((checkpoint.validation_folder(run, step) / "parity.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_run_passes_once(workspace, asked, kind):
    listener = Listener()
    result = train(workspace, replace(asked, **KINDS[kind]), gpus=0, report=listener)
    found = result_of(result.run, 2)
    values = {claim["claim"]: claim["value"] for claim in found["claims"]}
    assert all(claim["holds"] for claim in found["claims"]) and found["step"] == 2
    assert values["tensors of the checkpoint that differ from the trained ones"] == 0
    assert values["the clip sampled from the checkpoint differs by"] == 0
    assert values["the adapter changes v by"] > 0
    seen = {claim for claim in values if claim.startswith("other ")}
    assert len(seen) == (4 if kind == "fca" else 2)
    assert not (checkpoint.validation_folder(result.run, 4) / "parity.json").exists()
    assert listener.text.count("parity gate, step 2: passed, the checkpoint gives the same clip") == 1
    assert f"runs/{result.run.name}/validation/step-000002/parity.json" in listener.text
    assert "parity at step 0: the adapter changes v by 0" in listener.text


@pytest.mark.parametrize(
    "fields, count",
    [
        ({"init_features": "none"}, 3),
        ({"init_features": "patch", "text_modules": "none"}, 1),
        ({"image_features": "none", "text_modules": "shared"}, 3),
    ],
)
def test_an_ablation_is_asked_only_for_inputs_that_it_has(workspace, asked, fields, count):
    result = train(workspace, replace(asked, adapter_fields=fields), gpus=0)
    assert len([claim for claim in result_of(result.run, 2)["claims"] if claim["claim"].startswith("other ")]) == count


@pytest.mark.parametrize("changes", [{"validate_clips": 0}, {"validate_every": 0}])
def test_the_gate_stands_where_no_clip_is_validated_or_only_the_last_step(workspace, asked, changes):
    result = train(workspace, replace(asked, **changes), gpus=0)
    assert len(list(result.run.glob("validation/*/parity.json"))) == 1


def test_without_held_out_clips_it_takes_a_training_clip(workspace, asked):
    import shutil

    shutil.rmtree(workspace.dataset() / "val")
    assert len(result_of(train(workspace, asked, gpus=0).run, 2)["claims"]) == 7


def test_a_resumed_run_does_not_pass_it_again(workspace, asked, monkeypatch):
    crash(workspace, asked, 3)
    monkeypatch.setattr(parity.Gate, "_of_the_checkpoint", lambda *_: pytest.fail("again"))
    assert train(workspace, gpus=0).finished


@pytest.mark.parametrize("optimizer", ["adamw8bit", "adamw"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gate_changes_no_bit_of_the_run(workspace, asked, kind, optimizer, monkeypatch):
    """With the gate, without it, and resumed between the two validations: the same weights and log."""
    options = replace(asked, **KINDS[kind], optimizer=optimizer, accumulate=2)
    gated = train(workspace, options, gpus=0, run="gated")
    crash(workspace, options, 3, run="resumed")
    resumed = train(workspace, options, gpus=0, run="resumed")
    monkeypatch.setattr(parity.Gate, "at_start", lambda *_: None)
    monkeypatch.setattr(parity.Gate, "at_validation", lambda *_: None)
    bare = train(workspace, options, gpus=0, run="bare")
    for run in (resumed.run, bare.run):
        assert equal(weights(run), weights(gated.run))
        assert (run / "log.jsonl").read_bytes() == (gated.run / "log.jsonl").read_bytes()
    assert (gated.run / "validation" / "step-000002" / "parity.json").is_file()
    assert not (bare.run / "validation" / "step-000002" / "parity.json").exists()


# ---------------------------------------------------------------- broken on purpose


def stopped(workspace, asked, kind="fca"):
    with pytest.raises(FcaError) as caught:
        train(workspace, replace(asked, **KINDS[kind]), gpus=0)
    assert caught.value.code == 1
    run = workspace.runs.iterdir()
    assert not list(next(run).glob("validation/step-*"))
    return caught.value.message


def test_a_fresh_adapter_that_changes_the_base_is_caught(workspace, asked, monkeypatch):
    inner = FCALayer.__init__

    def awake(self, *arguments):
        inner(self, *arguments)
        torch.nn.init.constant_(self.to_out.bias, 1e-4)

    monkeypatch.setattr(FCALayer, "__init__", awake)
    said = stopped(workspace, asked)
    assert "step 0" in said and "a fresh adapter leaves v as it is" in said


def test_a_fresh_lora_that_changes_the_base_is_caught(workspace, asked, monkeypatch):
    inner = LoRAAdapter.__init__

    def awake(self, *arguments):
        inner(self, *arguments)
        torch.nn.init.constant_(self.matrices[1], 1e-4)

    monkeypatch.setattr(LoRAAdapter, "__init__", awake)
    assert "a fresh adapter leaves v as it is" in stopped(workspace, asked, "lora")


@pytest.mark.parametrize("kind", KINDS)
def test_stale_weights_in_the_checkpoint_are_caught(workspace, asked, kind, monkeypatch):
    """A save that writes what the adapter was when the run began."""
    inner, began = attaching.save_adapter, {}

    def stale(adapter, folder, *others):
        monkeypatch.setattr(adapter, "state", lambda: began)
        inner(adapter, folder, *others)
        monkeypatch.delattr(adapter, "state")

    fresh = parity.Gate.at_start

    def remember(gate, report):
        began.update({name: tensor.clone() for name, tensor in gate.adapter.state().items()})
        fresh(gate, report)

    monkeypatch.setattr(parity.Gate, "at_start", remember)
    monkeypatch.setattr(attaching, "save_adapter", stale)
    said = stopped(workspace, asked, kind)
    assert "tensors of the checkpoint that differ from the trained ones" in said
    assert "the clip sampled from the checkpoint differs by" in said


def test_a_tensor_missing_from_the_checkpoint_is_caught(workspace, asked, monkeypatch):
    import safetensors.torch

    inner = safetensors.torch.save_file

    def dropping(tensors, *arguments, **keywords):
        inner({n: t for n, t in tensors.items() if n != "layers.1.to_q.weight"}, *arguments, **keywords)

    monkeypatch.setattr(safetensors.torch, "save_file", dropping)
    said = stopped(workspace, asked)
    assert "the checkpoint cannot be loaded" in said and "missing layers.1.to_q.weight" in said


def test_an_adapter_that_is_never_used_is_caught(workspace, asked, monkeypatch):
    """As when the module is not called, or its output dropped; the gradient is then zero, not missing."""
    monkeypatch.setattr(FCALayer, "forward", lambda self, video, text, *_: (0 * video * self.to_out.bias, 0 * text))
    said = stopped(workspace, asked)
    assert "the adapter has no effect" in said and "the adapter changes v by 0" in said


def test_lora_layers_that_are_off_are_caught(workspace, asked, monkeypatch):
    inner = LoRAAdapter.denoise

    def off(self, base, x_t, *others):
        if torch.is_grad_enabled():
            return inner(self, base, x_t, *others)
        with set_aside(base.transformer):
            return inner(self, base, x_t, *others)

    monkeypatch.setattr(LoRAAdapter, "denoise", off)
    assert "the adapter changes v by 0" in stopped(workspace, asked, "lora")


def zeros(given, *names):
    return replace(given, **{name: torch.zeros_like(getattr(given, name)) for name in names})


@pytest.mark.parametrize(
    "dropped, kind, said",
    [
        (["init_latents"], "fca", "other latents of the given frames change v by 0"),
        (["image"], "fca", "other image features of the given frames change v by 0"),
        (["text", "text_mask"], "fca", "other words in the caption change v by 0"),
        (["init_latents"], "lora", "other latents of the given frames change v by 0"),
    ],
)
def test_conditioning_that_never_enters_the_model_is_caught(workspace, asked, dropped, kind, said, monkeypatch):
    whole = {"fca": FCAAdapter, "lora": LoRAAdapter}[kind]
    inner = whole.condition
    monkeypatch.setattr(whole, "condition", lambda self, base, given: inner(self, base, zeros(given, *dropped)))
    found = stopped(workspace, asked, kind)
    assert said in found and found.count("must be") == 1


def test_lora_that_loses_the_caption_is_caught(workspace, asked, monkeypatch):
    inner = LoRAAdapter.denoise
    monkeypatch.setattr(
        LoRAAdapter, "denoise", lambda self, base, x, t, text, given: inner(self, base, x, t, torch.zeros_like(text), given)
    )
    assert "other words in the caption change v by 0" in stopped(workspace, asked, "lora")


# ---------------------------------------------------------------- putting aside


@pytest.mark.parametrize("config", [FCAConfig(width=32, text_width=16, text_heads=2), LoRAConfig(rank=2)], ids=KINDS)
def test_what_was_put_aside_comes_back_untouched(tiny_base_folder, tmp_path, config):
    """The same tensors with their gradients, in the optimizer's hands, whatever was on the base in between."""
    from fcacli.config import ClipConfig

    clip = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
    base = load_base(resolve_base(str(tiny_base_folder)))
    names = list(base.transformer.state_dict())
    adapter = attach(base, config, clip)
    for _, parameter in adapter.trainable():
        torch.nn.init.normal_(parameter, std=0.1)
        parameter.grad = torch.ones_like(parameter)
    modules = {name: id(module) for name, module in base.transformer.named_modules()}
    before = [(name, id(p), p.clone(), p.requires_grad) for name, p in base.transformer.named_parameters()]
    save_adapter(adapter, tmp_path, base.spec.name, base.fingerprint, clip)
    with pytest.raises(KeyboardInterrupt), set_aside(base.transformer):
        assert list(base.transformer.state_dict()) == names
        other = load_adapter(base, tmp_path)
        assert not {id(p) for _, p in other.trainable()} & {id(p) for _, p in adapter.trainable()}
        raise KeyboardInterrupt
    assert modules == {name: id(module) for name, module in base.transformer.named_modules()}
    after = [(name, id(p), p, p.requires_grad) for name, p in base.transformer.named_parameters()]
    for (*place, value, trains), (*place_after, value_after, trains_after) in zip(before, after, strict=True):
        assert (place, trains) == (place_after, trains_after) and torch.equal(value, value_after)
    assert all((p.grad == 1).all() for _, p in adapter.trainable())


def test_loading_for_the_gate_draws_nothing_from_the_global_generator(workspace, asked, monkeypatch):
    states = []
    inner = parity.Gate.at_validation

    def around(self, *arguments):
        states.append(torch.random.get_rng_state())
        inner(self, *arguments)
        states.append(torch.random.get_rng_state())

    monkeypatch.setattr(parity.Gate, "at_validation", around)
    train(workspace, asked, gpus=0)
    assert torch.equal(states[0], states[1])


@pytest.mark.parametrize(
    "deaf_to, said",
    [
        ("text", "other words in the caption change the frame-wise text by 0"),
        ("image", "other image features of the given frames change v by 0"),
    ],
)
def test_deaf_text_modules_are_caught(workspace, asked, deaf_to, said, monkeypatch):
    """The features of the frozen layers know the caption too, so it is asked of the text modules themselves."""
    inner = FrameText.forward

    def deaf(self, text, mask, image):
        given = {"text": text, "image": image}
        given[deaf_to] = torch.ones_like(given[deaf_to])
        return inner(self, given["text"], torch.ones_like(mask), given["image"])

    monkeypatch.setattr(FrameText, "forward", deaf)
    assert said in stopped(workspace, asked)
