"""Compiled blocks: the same results, a fresh adapter still its base, saved adapters unchanged.

Most of it with the compiler's front alone, which takes seconds; with the compiler itself behind -m slow.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small import CLIP, fca_config, inputs, wake
from torch._dynamo.utils import counters

from fcacli.config import AdapterConfig, Keeping, LoRAConfig
from fcacli.errors import FcaError
from fcacli.model import compiling
from fcacli.model.attach import attach, set_aside
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.sharding import release
from fcacli.training.activations import keep_inputs_in_main_memory


@pytest.fixture
def fronted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Traced and split into forward and backward graphs as ever, which then run as they are."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def made(base: CogVideoX, config: AdapterConfig | None = None, **keeping: Any) -> tuple[CogVideoX, Any]:
    base.keep(Keeping(**keeping))
    torch.manual_seed(0)
    return base, attach(base, config or fca_config(), CLIP)


@torch.no_grad()
def sampled(base: CogVideoX, adapter: Any) -> torch.Tensor:
    x_t, t, given = inputs(base)
    return adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))


def gradients(base: CogVideoX, adapter: Any) -> list[torch.Tensor]:
    x_t, t, given = inputs(base)
    for _, parameter in adapter.trainable():
        parameter.grad = None
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()
    return [parameter.grad for _, parameter in adapter.trainable()]


@torch.no_grad()
def require_a_fresh_adapter_is_the_base(base: CogVideoX, adapter: Any) -> None:
    x_t, t, given = inputs(base)
    fresh = sampled(base, adapter)
    with set_aside(base.transformer):
        assert torch.equal(base.denoise(x_t, t, given.text), fresh)


@pytest.mark.usefixtures("fronted")
@pytest.mark.parametrize(
    "keeping",
    [
        pytest.param({}, id="plain", marks=pytest.mark.slow),  # 25 s each
        pytest.param({"block_swap": 1}, id="swapped"),
        pytest.param({"base_weights": "int8"}, id="int8", marks=pytest.mark.slow),
    ],
)
def test_compiled_blocks_give_the_same_and_a_fresh_adapter_is_their_base(make_base, keeping):
    plain, compiled = made(make_base("rotary"), **keeping), made(make_base("rotary"), compile=True, **keeping)
    require_a_fresh_adapter_is_the_base(*compiled)
    assert counters["stats"]["unique_graphs"] > 0
    for _, adapter in (plain, compiled):
        wake(adapter)
    torch.testing.assert_close(sampled(*compiled), sampled(*plain))
    expected = gradients(*plain)
    plain[0].transformer.enable_gradient_checkpointing()
    keep_inputs_in_main_memory(compiled[0].transformer)
    for ours, theirs in zip(gradients(*compiled), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.skipif(release() < (2, 11), reason=f"torch {torch.__version__} compiles some parts anew for a further layer")
@pytest.mark.usefixtures("fronted")
def test_all_layers_share_what_is_compiled_and_a_further_call_compiles_nothing(write_base, tmp_path):
    from fcacli.model.bases import load_base, resolve_base

    graphs = []
    for layers in (2, 3):
        torch._dynamo.reset()
        counters.clear()
        base, adapter = made(load_base(resolve_base(str(write_base(tmp_path / str(layers), num_layers=layers)))), compile=True)
        gradients(base, adapter)
        graphs.append(counters["stats"]["unique_graphs"])
        gradients(base, adapter)
        assert counters["stats"]["unique_graphs"] == graphs[-1]
    assert graphs[0] == graphs[1]
    assert not counters["graph_break"]


@pytest.mark.usefixtures("fronted")
def test_an_adapter_has_the_same_tensors_whether_compiled_or_not(make_base):
    _, plain = made(make_base())
    _, compiled = made(make_base(), compile=True)
    assert plain.state().keys() == compiled.state().keys()
    assert all(torch.equal(plain.state()[name], tensor) for name, tensor in compiled.state().items())


@pytest.mark.usefixtures("fronted")
def test_lora_layers_are_in_the_compiled_blocks(make_base):
    config = LoRAConfig(rank=2)
    plain, compiled = made(make_base("rotary"), config), made(make_base("rotary"), config, compile=True)
    before = sampled(*compiled)
    for _, adapter in (plain, compiled):
        wake(adapter)
    torch.testing.assert_close(sampled(*compiled), sampled(*plain))
    assert not torch.equal(sampled(*compiled), before)
    for ours, theirs in zip(gradients(*compiled), gradients(*plain), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_a_compiler_it_is_refused_before_anything_is_loaded(make_base, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CXX", "no-such-compiler")
    base = make_base()
    with pytest.raises(FcaError, match="needs a C\\+\\+ compiler"):
        base.keep(Keeping(compile=True))


def test_compiled_code_is_kept_apart_from_what_a_killed_process_left(tmp_path):
    """In a process of its own: torch remembers where it compiles."""
    script = """
import os, torch
from fcacli.model.compiling import require_compiler
require_compiler(torch.device("cpu"))
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir())
"""
    names = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    own = {**names, "TMPDIR": str(tmp_path)}
    for environment in (own, own | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "named")}):
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
        folder = Path(done.stdout.strip())
        assert folder.parent == tmp_path and (folder.name == "named" or folder.name.startswith("fca-compiled-"))
        assert not list(tmp_path.glob("fca-compiled-*"))  # gone with the process


@pytest.mark.slow
def test_with_the_compiler_itself(make_base):
    """Rounding is its own, so results are close; a fresh adapter is the base to the bit all the same."""
    torch._dynamo.reset()
    plain, compiled = made(make_base("rotary")), made(make_base("rotary"), compile=True)
    require_a_fresh_adapter_is_the_base(*compiled)
    for base, adapter in (plain, compiled):
        wake(adapter)
        base.transformer.enable_gradient_checkpointing()
    torch.testing.assert_close(sampled(*compiled), sampled(*plain), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients(*compiled), gradients(*plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
