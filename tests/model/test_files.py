"""Adapters in and out of files: what is kept, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import CLIP, fca_config, inputs, wake

from fcacli.config import AdapterConfig, LoRAConfig
from fcacli.errors import FcaError
from fcacli.model.attach import attach, attached, detach, load_adapter, save_adapter
from fcacli.model.bases.cogvideox import CogVideoX

MakeBase = Callable[..., CogVideoX]


def saved(base: CogVideoX, folder: Path, config: AdapterConfig | None = None) -> torch.Tensor:
    """Save an awake adapter of `base`; returns what it computes on `inputs`, and leaves the base bare."""
    adapter = attach(base, config or fca_config(), CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)
    with torch.no_grad():
        output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    save_adapter(adapter, folder, base.spec.name, base.fingerprint, CLIP)
    detach(base.transformer)
    return output


@pytest.mark.parametrize("config", [fca_config(), fca_config(text_modules="shared", width=16), LoRAConfig(rank=4)])
@pytest.mark.parametrize("kind", ["absolute", "temporal_patch"])
def test_reloaded_adapter_computes_the_same(make_base: MakeBase, tmp_path: Path, kind: str, config: AdapterConfig) -> None:
    expected = saved(make_base(kind), tmp_path, config)
    base = make_base(kind)
    adapter = load_adapter(base, tmp_path)
    x_t, t, given = inputs(base)
    with torch.no_grad():
        assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), expected)
    assert adapter.config == config and adapter.clip == CLIP


def test_an_adapter_travels_alone(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base()
    saved(base, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.safetensors", "adapter_config.json"]
    tensors = load_file(tmp_path / "adapter.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"layers", "text_modules"}
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    assert values["base"] == base.spec.name and values["base_fingerprint"] == base.fingerprint
    assert values["clip"]["frames"] == 16 and values["adapter"]["kind"] == "fca" and values["version"]


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "adapter.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layers.1.to_q.weight"), r"missing layers\.1\.to_q\.weight \(32, 32\)"),
        (lambda tensors: tensors.update(extra=torch.zeros(2, 3)), r"unexpected extra \(2, 3\)"),
        (
            lambda tensors: tensors.update({"layers.0.to_out.weight": torch.zeros(48, 32)}),
            r"layers\.0\.to_out\.weight is \(48, 32\), the base needs \(32, 32\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    make_base: MakeBase, tmp_path: Path, change: Callable[..., None], message: str
) -> None:
    base = make_base()
    saved(base, tmp_path)
    edit_tensors(tmp_path, change)
    with pytest.raises(FcaError, match=message):
        load_adapter(base, tmp_path)
    assert not attached(base.transformer)


def test_an_adapter_of_another_base_is_refused_by_name(make_base: MakeBase, tmp_path: Path) -> None:
    saved(make_base("absolute"), tmp_path)
    with pytest.raises(FcaError, match=r"made for .*absolute.*this base is .*rotary"):
        load_adapter(make_base("rotary"), tmp_path)


def test_an_adapter_of_another_base_is_refused_by_shape(
    make_base: MakeBase, tmp_path: Path, write_base: Callable[..., Path]
) -> None:
    from fcacli.model.bases import load_base, resolve_base

    saved(make_base(), tmp_path / "adapter")
    wide = load_base(resolve_base(str(write_base(tmp_path / "wide", num_attention_heads=4, num_layers=3))))
    values = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    values["base_fingerprint"] = wide.fingerprint
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(FcaError, match=r"layers\.0\.to_k\.weight is \(32, 32\), the base needs \(32, 64\).* and \d+ more"):
        load_adapter(wide, tmp_path / "adapter")


def test_broken_adapter_folders_are_one_clear_error(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base()
    with pytest.raises(FcaError, match=r"adapter_config\.json is missing"):
        load_adapter(base, tmp_path)
    saved(base, tmp_path)
    (tmp_path / "adapter.safetensors").write_bytes(b"not tensors")
    with pytest.raises(FcaError, match="cannot read"):
        load_adapter(base, tmp_path)
    (tmp_path / "adapter.safetensors").unlink()
    with pytest.raises(FcaError, match="does not exist"):
        load_adapter(base, tmp_path)
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    values["adapter"]["widht"] = 3
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(FcaError, match="widht"):
        load_adapter(base, tmp_path)
