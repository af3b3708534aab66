"""Putting an adapter onto a frozen transformer and taking it off again; adapters in and out of files.

The seam is the block: each block of the transformer is replaced by an FCABlock that holds it and the layer's parallel
module. A processor inside the attention would not do: it sees neither the block's inputs nor the time embedding, which the
module's own adaLN needs. Conditioning is not kept on any module; it travels as an argument through the transformer,

    transformer(..., attention_kwargs={"fca": FCAConditioning | Tap | None})

and a call of an adapted transformer without the key is an error, so that nothing is silently left unconditioned.
diffusers' block-level group offloading is applied after attaching, not before: it hooks the blocks it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import fcacli
from fcacli.config import AdapterConfig, ClipConfig, FCAConfig, FCALoRAConfig, InContextFCAConfig, from_dict, to_dict
from fcacli.errors import FcaError, Misuse
from fcacli.model.bases import cogvideox_block as seam
from fcacli.model.compiling import compile_modules
from fcacli.model.conditioning import AppendedText, FCAConditioning, Tap
from fcacli.model.fca import AppendedLayer, FCAAdapter, FCALayer, Geometry
from fcacli.model.fca_lora import FCALoRAAdapter
from fcacli.model.lora import LoRAAdapter, lora_layers, lora_off, put_lora_back, remove_lora
from fcacli.model.pipeline import base_of_pipeline
from fcacli.workspace import atomic_file, read_json, write_json

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX

Adapter = FCAAdapter | LoRAAdapter
WEIGHTS, CONFIG = "adapter.safetensors", "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Suffixes of weights that are never read: unpickling runs what the file says."""
NAME = "fca"
"""Of the conditioning in attention_kwargs, and of the parallel module below an FCABlock."""


class FCABlock(nn.Module):
    """A frozen block with its parallel module; called as the block is."""

    def __init__(self, block: nn.Module, layer: FCALayer | AppendedLayer, index: int):
        super().__init__()
        self.block = block
        self.fca = layer
        self.index = index

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Video (B, F*N, d), text (B, L, d) and time embedding to new video and text.

        attention_kwargs["fca"] is an FCAConditioning (adapter on), a Tap (adapter off, the attention's input recorded, the
        last block not computed any further) or None (adapter off).
        """
        others = dict(attention_kwargs or {})
        if NAME not in others:
            raise FcaError(
                "an adapted transformer was called without its conditioning",
                'pass attention_kwargs={"fca": adapter.condition(...)}, {"fca": None} for the base alone, or detach it',
            )
        conditioning = others.pop(NAME)
        if isinstance(conditioning, FCAConditioning):
            keys = conditioning.layers[self.index]
            if isinstance(keys, AppendedText):
                return seam.forward_with_more_text(
                    self.block, keys.tokens, hidden_states, encoder_hidden_states, temb, image_rotary_emb, others
                )
            return seam.forward_with_parallel(
                self.block,
                lambda video, text, temb, modulated: self.fca(video, text, temb, modulated, image_rotary_emb, keys),
                hidden_states,
                encoder_hidden_states,
                temb,
                image_rotary_emb,
                others,
            )
        if isinstance(conditioning, Tap):
            conditioning.record(self.index, seam.attention_input(self.block, hidden_states, encoder_hidden_states, temb))
            if conditioning.complete:
                return hidden_states, encoder_hidden_states
        elif conditioning is not None:
            raise FcaError(f'attention_kwargs["fca"] is a {type(conditioning).__name__}, not a conditioning of this adapter')
        with lora_off(self.block):
            return self.block(
                hidden_states=hidden_states,
                encoder_hidden_states=encoder_hidden_states,
                temb=temb,
                image_rotary_emb=image_rotary_emb,
                attention_kwargs=others,
            )


def attach(
    base: CogVideoX,
    config: AdapterConfig,
    clip: ClipConfig,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Adapter:
    """Make a fresh adapter for `base` and clips of `clip`, and put it onto the base's transformer.

    New weights are drawn from torch's global generator; seed it for a reproducible start.

    Args:
        device: where FCA's modules are put; None for the base's. LoRA matrices are always where the base is.

    Raises:
        FcaError: the transformer carries an adapter already.
        Misuse: the clip or the adapter's width does not fit the base.
    """
    transformer = base.transformer
    if attached(transformer):
        raise FcaError("the transformer carries an adapter already", "detach(transformer) first")
    if not isinstance(config, FCAConfig):
        return LoRAAdapter(config, base, clip, dtype)
    blocks = getattr(transformer, seam.BLOCKS)
    geometry = Geometry.of(base, clip, in_front=isinstance(config, InContextFCAConfig))
    kind = FCALoRAAdapter if isinstance(config, FCALoRAConfig) else FCAAdapter
    if device is None and base.device.type != "cpu":
        device = base.device
    adapter = kind(config, geometry, clip, base.spec.name, blocks, dtype, device)
    pairs = enumerate(zip(blocks, adapter.parallel_modules, strict=True))
    adapted = nn.ModuleList(FCABlock(block, layer, index) for index, (block, layer) in pairs)
    setattr(transformer, seam.BLOCKS, adapted.train(transformer.training))
    # layer-wise casting would turn the trained weights to float8
    transformer._skip_layerwise_casting_patterns = [*(transformer._skip_layerwise_casting_patterns or []), rf"\.{NAME}\."]
    if isinstance(adapter, FCALoRAAdapter):
        adapter.add_lora(base, dtype)
    if base.keeping.compile:
        compile_modules(adapter.layers)
        compile_modules(adapter.text_modules)
    return adapter


def detach(transformer: Any) -> None:
    """Give a transformer its own blocks back; LoRA layers are removed. Nothing happens where nothing is attached."""
    if _wrapped(transformer):
        setattr(transformer, seam.BLOCKS, nn.ModuleList(adapted.block for adapted in getattr(transformer, seam.BLOCKS)))
        transformer.__dict__.pop("_skip_layerwise_casting_patterns", None)
    remove_lora(transformer)


@contextmanager
def set_aside(transformer: Any) -> Iterator[None]:
    """The base alone for a while, onto which another adapter may go; then the adapter is back, the same modules and tensors."""
    blocks = getattr(transformer, seam.BLOCKS) if _wrapped(transformer) else None
    not_cast = transformer.__dict__.get("_skip_layerwise_casting_patterns")
    layers = lora_layers(transformer)
    detach(transformer)
    try:
        yield
    finally:
        detach(transformer)
        if blocks is not None:
            setattr(transformer, seam.BLOCKS, blocks)
            transformer._skip_layerwise_casting_patterns = not_cast
        put_lora_back(transformer, layers)


def attached(transformer: Any) -> bool:
    """Whether a transformer carries an adapter, of either kind."""
    return _wrapped(transformer) or bool(getattr(transformer, "peft_config", None))


def adapter_off(transformer: Any) -> dict[str, None] | None:
    """attention_kwargs with which a transformer, adapted or not, computes what the base alone does."""
    return {NAME: None} if _wrapped(transformer) else None


def _wrapped(transformer: Any) -> bool:
    blocks = getattr(transformer, seam.BLOCKS)
    return len(blocks) > 0 and isinstance(blocks[0], FCABlock)


# ---------------------------------------------------------------- files


def save_adapter(adapter: Adapter, folder: Path, base_name: str, base_fingerprint: str, clip: ClipConfig) -> None:
    """Write adapter.safetensors and adapter_config.json into `folder`: trained tensors and what they are, nothing else."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().cpu() for name, tensor in adapter.state().items()}
    with atomic_file(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})  # of two entries the order would be random
    values = {
        "version": fcacli.__version__,
        "base": base_name,
        "base_fingerprint": base_fingerprint,
        "adapter": to_dict(adapter.config),
        "clip": to_dict(clip),
    }
    write_json(folder / CONFIG, values)


@dataclass(frozen=True, kw_only=True)
class SavedAdapter:
    """adapter_config.json."""

    version: str
    base: str
    base_fingerprint: str
    adapter: AdapterConfig
    clip: ClipConfig


def read_adapter_config(folder: Path) -> SavedAdapter:
    """What an adapter folder says of itself.

    Raises:
        FcaError: there is none, or its fields are not right.
    """
    if not (folder / CONFIG).is_file():
        raise FcaError(f"{folder} holds no adapter: {CONFIG} is missing", "fca train, or pass runs/<run>/checkpoints/<step>")
    try:
        return from_dict(SavedAdapter, read_json(folder / CONFIG), str(folder / CONFIG))
    except Misuse as error:  # a file is wrong, not an option
        raise FcaError(error.message, error.hint or "the adapter is damaged: take another checkpoint") from None


def load_adapter(base: Any, folder: str | Path, clip: ClipConfig | None = None, device: torch.device | None = None) -> Adapter:
    """Put a saved adapter onto a base (a CogVideoX of fca, or a diffusers CogVideoXPipeline).

    Args:
        clip: for clips of another kind than it was trained for, of as many frames; None for the same.
        device: where FCA's modules are put; None for the base's.

    Raises:
        FcaError: the folder is incomplete, the adapter was made for another base, or a tensor is missing, unexpected or of
            another shape; each is named.
    """
    folder = Path(folder)
    saved = read_adapter_config(folder)
    if not hasattr(base, "spec"):
        base = base_of_pipeline(base, saved.base)
    here = base.fingerprint
    if here is not None and here != saved.base_fingerprint:
        raise FcaError(
            f"the adapter in {folder} was made for {saved.base} (fingerprint {saved.base_fingerprint}); "
            f"this base is {base.spec.name} ({here})",
            f"--base {saved.base}",
        )
    tensors = _read_tensors(folder / WEIGHTS)
    trained_so = {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    adapter = attach(base, saved.adapter, clip or saved.clip, torch.bfloat16 if trained_so else torch.float32, device)
    try:
        load_state(adapter, tensors, str(folder / WEIGHTS))
    except FcaError:
        detach(base.transformer)
        raise
    return adapter


def load_state(adapter: Adapter, tensors: dict[str, Tensor], where: str) -> None:
    """Copy tensors into an adapter, strictly.

    Raises:
        FcaError: naming each tensor that is missing, unexpected, of another shape, or not of finite numbers.
    """
    own = adapter.state()
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in own.keys() - tensors.keys()]
    problems += [f"unexpected {name} {tuple(tensors[name].shape)}" for name in tensors.keys() - own.keys()]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, the base needs {tuple(own[name].shape)}"
        for name in own.keys() & tensors.keys()
        if own[name].shape != tensors[name].shape
    ]
    problems += [
        f"{name} {'is ' + str(tensor.dtype) if not tensor.is_floating_point() else 'holds values that are not finite'}"
        for name, tensor in tensors.items()
        if not tensor.is_floating_point() or not (tensor.is_meta or tensor.isfinite().all())
    ]
    if problems:
        shown = sorted(problems)[:6]
        more = f" and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
        raise FcaError(f"{where} does not fit this base: {'; '.join(shown)}{more}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        pickles = [
            file.name for file in sorted(path.parent.glob("*")) if file.suffix in PICKLES and file.name != "optimizer.pt"
        ]
        if pickles:
            raise FcaError(
                f"{path} does not exist, and {pickles[0]} is not read: a file of that kind can run code",
                "adapters are safetensors files only: get it in that form",
            )
        raise FcaError(f"{path} does not exist", "the checkpoint is incomplete: take another")
    try:
        return load_file(path)
    except Exception as error:
        raise FcaError(f"cannot read {path}: {error}", "the file is damaged: take another checkpoint") from error
