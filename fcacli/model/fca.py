"""Frame-wise Conditioning Adaptation: a trainable attention module parallel to the joint attention of every DiT layer.

    q    = W_q  adaLN([y; x_t], t)
    k, v = W_k, W_v  [y_frames ; x_init]
    out  = W_o  softmax(q k^T / sqrt(d_head) + frame_wise_mask) v
    [y; x_t] <- [y; x_t] + gate_base * base_attention(...) + gate * out

    B batch · F latent frames · N video tokens per latent frame · L text tokens · M frame-wise text tokens per latent frame
    K initial-frame tokens · d DiT width · D DiT layers · H heads of the module · c head width, d_head
    With a temporal patch (CogVideoX 1.5) F counts temporal patches.

Source: Liu, Wang, Duan, Rodriguez-Opazo, van den Hengel, TMLR 2025 (arXiv 2503.12953).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fcacli.config import ClipConfig, FCAConfig, InContextFCAConfig
from fcacli.errors import FcaError, Misuse
from fcacli.model.bases.cogvideox_block import AttentionParts, Modulated, attention_parts
from fcacli.model.bases.frames import latent_frames, patched_frames
from fcacli.model.block_swap import Waiting
from fcacli.model.conditioning import AppendedText, FCAConditioning, Given, LayerConditioning, Tap
from fcacli.model.dense import copy_linear, copy_module
from fcacli.model.functional import frame_wise_attention, rotate, unmasked_attention
from fcacli.model.qformer import FrameText

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX


@dataclass(frozen=True)
class Geometry:
    """The sizes of a base and a clip that fix the shapes of an adapter."""

    layers: int
    """D"""
    d: int
    head_dim: int
    frames: int
    """F, of one clip; with those that stand in front of it."""
    tokens: int
    """N, video tokens per latent frame."""
    text_dim: int
    image_dim: int

    @classmethod
    def of(cls, base: CogVideoX, clip: ClipConfig, in_front: bool = False) -> Geometry:
        """Of a base and a clip; `in_front`: with the initial frames' latents before the video."""
        frames, _, height, width = base.latent_shape(clip)
        patch, front = base.config("transformer")["patch_size"], latent_frames(clip.init_frames) if in_front else 0
        return cls(
            layers=base.layers,
            d=base.d,
            head_dim=base.head_dim,
            frames=sum(patched_frames(count, base.temporal_patch) for count in (frames, front)),
            tokens=(height // patch) * (width // patch),
            text_dim=base.config("transformer")["text_embed_dim"],
            image_dim=base.config("image_encoder")["hidden_size"],
        )


class FCALayer(nn.Module):
    """The parallel module of one layer.

    W_q, W_k, W_v and the norms start as copies of the frozen layer's (its first heads where the module is narrower), W_o
    at zero: an adapted model equals its base exactly before training.
    """

    def __init__(self, config: FCAConfig, geometry: Geometry, frozen: AttentionParts):
        super().__init__()
        width, d = config.width, geometry.d
        self.heads, self.mask = width // geometry.head_dim, config.mask
        self.frames, self.tokens = geometry.frames, geometry.tokens
        self.norm = copy_module(frozen.norm) if config.modulation == "own" else None  # adaLN's alpha, beta, gamma
        if config.projections == "copy":
            self.to_q, self.to_k, self.to_v = (copy_linear(p, width) for p in (frozen.to_q, frozen.to_k, frozen.to_v))
        else:
            self.to_q, self.to_k, self.to_v = (nn.Linear(d, width) for _ in range(3))
        self.norm_q = copy_module(frozen.norm_q) if frozen.norm_q is not None else nn.Identity()
        self.norm_k = copy_module(frozen.norm_k) if frozen.norm_k is not None else nn.Identity()
        self.to_out = nn.Linear(width, d)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def condition(self, y_frames: Tensor, x_init: Tensor, init_rotary: tuple[Tensor, Tensor] | None) -> LayerConditioning:
        """k, v = W_k, W_v [y_frames ; x_init], from y_frames (B, F, M, d) and x_init (B, K, d); once per clip.

        x_init carries the rotary embedding of the initial frames' positions, y_frames none. Kept in the type of x_init, in
        which they will be read.
        """
        kept = x_init.dtype
        y_frames, x_init = (context.to(self.to_k.weight.dtype) for context in (y_frames, x_init))
        key_frames, value_frames = (
            rearrange(project(y_frames), "b f m (h c) -> b h f m c", h=self.heads) for project in (self.to_k, self.to_v)
        )
        key_init, value_init = (
            rearrange(project(x_init), "b k (h c) -> b h k c", h=self.heads) for project in (self.to_k, self.to_v)
        )
        key_init = rotate(self.norm_k(key_init), init_rotary)
        return LayerConditioning(self.norm_k(key_frames), value_frames, key_init, value_init).to(dtype=kept)

    def forward(
        self,
        video: Tensor,
        text: Tensor,
        temb: Tensor,
        modulated: Modulated,
        rotary: tuple[Tensor, Tensor] | None,
        keys: LayerConditioning,
    ) -> tuple[Tensor, Tensor]:
        """gate * out, for video (B, F*N, d) and text (B, L, d).

        Args:
            video, text, temb: inputs of the frozen block.
            modulated: its adaLN applied, used under modulation "block".
            rotary: of the video tokens, each (F*N, c), or None.
            keys: of this layer, from `condition`.
        """
        if video.shape[1] != self.frames * self.tokens:
            raise FcaError(
                f"the adapter is made for {self.frames} latent frames of {self.tokens} tokens; got {video.shape[1]} tokens"
            )
        with arithmetic_of(video, self.to_q.weight):
            if self.norm is not None:
                kept = self.to_q.weight.dtype
                seen = (part if kept == torch.float32 else part.to(kept) for part in (video, text, temb))
                modulated = Modulated(*self.norm(*seen))
            queries = self._query(modulated.text, None), self._query(modulated.video, rotary)
            own = (keys.key_frames, keys.value_frames, keys.key_init, keys.value_init)
            parts = (*queries, *(part.to(queries[0].dtype) for part in own))
            read = frame_wise_attention(*parts) if self.mask == "frame" else unmasked_attention(*parts)
            out_text, out_video = map(self.to_out, read)  # (B, L, d), (B, F*N, d)
            return modulated.gate_video * out_video, modulated.gate_text * out_text

    def _query(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """W_q x of (B, S, d), its norm and rotary embedding applied: (B, H, S, c), in the memory's order (B, S, H, c)."""
        projected = self.to_q(x).unflatten(-1, (self.heads, -1))
        query = self.norm_q(projected).to(projected.dtype)  # CUDA's autocast takes norms with float32 weights in float32
        return rotate(query.transpose(1, 2), rotary)


class AppendedLayer(nn.Module):
    """In the place of FCALayer in the ablation `injection=text`: nothing of its own, the frozen attention reads it all."""

    def condition(self, y_frames: Tensor, x_init: Tensor, init_rotary: tuple[Tensor, Tensor] | None) -> AppendedText:
        """[y_frames ; x_init] as text, from y_frames (B, F, M, d) and x_init (B, K, d), without rotary embedding."""
        return AppendedText(torch.cat([y_frames.flatten(1, 2), x_init.to(y_frames.dtype)], dim=1))


def arithmetic_of(x: Tensor, weight: Tensor) -> AbstractContextManager[Any]:
    """At every denoising step trained float32 weights compute in the dtype of the base's activations x, bfloat16 ones in
    bfloat16.

    Inside the caller's autocast nothing is added to it.
    """
    dtype = x.dtype if weight.dtype == torch.float32 else weight.dtype
    if dtype == torch.float32 or torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, dtype=dtype)


class FCAAdapter(nn.Module):
    """The adapter of all layers: the parallel modules and the frame-wise text modules.

    Args:
        config: what the paper leaves open, and the ablations.
        geometry: sizes of base and clip.
        clip: the clip it is made for.
        base_name: of the base it is made for.
        blocks: the frozen DiT blocks, from which projections and norms are copied.
        dtype: of the weights.
        device: of the weights; None for where those are that are copied, and the CPU for others. Module by module they are
            drawn on the CPU, the same for every device, and go there.
    """

    def __init__(
        self,
        config: FCAConfig,
        geometry: Geometry,
        clip: ClipConfig,
        base_name: str,
        blocks: Iterable[nn.Module],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ):
        super().__init__()
        if config.width > geometry.d or config.width % geometry.head_dim:
            raise Misuse(
                f"--adapter-width {config.width} is not a multiple of the base's head width {geometry.head_dim} "
                f"up to its width {geometry.d}"
            )
        self.config, self.geometry, self.clip, self.base_name = config, geometry, clip, base_name
        self.layers = nn.ModuleList(
            FCALayer(config, geometry, attention_parts(block)).to(device, dtype)
            if config.injection == "parallel"
            else AppendedLayer()
            for block in blocks
        )
        count = {"per_layer": geometry.layers, "shared": 1, "none": 0}[config.text_modules]
        self.text_modules = nn.ModuleList(
            FrameText(config, geometry.frames, geometry.text_dim, geometry.image_dim, geometry.d).to(device, dtype)
            for _ in range(count)
        )
        self._waiting: dict[nn.Module, tuple[Waiting, torch.device]] = {}

    known_latents = 0
    """Leading latents whose output is not the model's own; see LoRA in place."""

    @property
    def parallel_modules(self) -> list[FCALayer | AppendedLayer]:
        """One per DiT layer."""
        return cast(list[FCALayer | AppendedLayer], list(self.layers))

    # ---------------------------------------------------------------- once per clip

    def condition(self, base: CogVideoX, given: Given) -> FCAConditioning:
        """Everything that depends on the given frames and the caption alone, whatever the denoising step.

        Gradients reach W_k, W_v and the text modules; the frozen pass has none.
        """
        latents = fill_temporal_patch(given.init_latents, base.temporal_patch)  # (B, F0, C, h, w)
        _, frames, _, height, width = latents.shape
        rotary = None if self.config.init_features == "none" else base.rotary(frames, height, width)
        y_frames = self.frame_wise_text(given)
        x_init = self.initial_features(base, latents, given.text)
        front, conditioned = latents if isinstance(self.config, InContextFCAConfig) else None, []
        for layer, y, x in zip(self.parallel_modules, y_frames, x_init, strict=True):
            with self._there(layer):
                conditioned.append(layer.condition(y, x, rotary))
        return FCAConditioning(tuple(conditioned), front)  # type: ignore[arg-type]

    def frame_wise_text(self, given: Given) -> list[Tensor]:
        """y_frames (B, F, M, d) of every layer; M is 0 in the ablation without."""
        if self.config.text_modules == "none":
            return [given.text.new_zeros(len(given.text), self.geometry.frames, 0, self.geometry.d)] * self.geometry.layers
        made = []
        for module in self.text_modules:
            with self._there(module):
                made.append(module(given.text, given.text_mask, given.image))
        return made * self.geometry.layers if self.config.text_modules == "shared" else made

    @torch.no_grad()
    def initial_features(self, base: CogVideoX, latents: Tensor, text: Tensor) -> list[Tensor]:
        """x_init (B, K, d) of every layer, from the initial frames' latents (B, F0, C, h, w); K is 0 in the ablation without.

        "layer": what each frozen block's attention reads when the base itself, adapter off, sees the initial frames at time
        step `init_timestep` with the sample's text. "patch": the normalised patch embedding, for all layers.
        """
        if self.config.init_features == "none":
            return [latents.new_zeros(len(latents), 0, self.geometry.d)] * self.geometry.layers
        if self.config.init_features == "patch":
            embedded = base.patch_embed(latents, text)
            return [functional.layer_norm(embedded, embedded.shape[-1:])] * self.geometry.layers
        tap = Tap(self.geometry.layers)
        t = torch.full((len(latents),), self.config.init_timestep, device=latents.device)
        base.denoise(latents, t, text, {"fca": tap})
        return tap.features

    # ---------------------------------------------------------------- at every step

    def denoise(self, base: CogVideoX, x_t: Tensor, t: Tensor, text: Tensor, conditioning: FCAConditioning) -> Tensor:
        """The adapted model: x_t (B, F, C, h, w), t (B,), text (B, L, d_text) -> the model's output, shaped like x_t."""
        return _behind(conditioning.front, base, x_t, t, text, {"fca": conditioning})

    def denoise_without(self, base: CogVideoX, x_t: Tensor, t: Tensor, text: Tensor, given: Given) -> Tensor:
        """What `denoise` is before training: the base alone, which must carry no adapter, the same frames in front."""
        front = fill_temporal_patch(given.init_latents, base.temporal_patch)
        return _behind(front if isinstance(self.config, InContextFCAConfig) else None, base, x_t, t, text, None)

    def only_sample(self, dtype: torch.dtype) -> None:
        """Nothing trains it any more: what every denoising step multiplies by is kept in the type of the base's activations,
        to which autocast would turn it at every step. Half the memory of float32, the same bits come out.
        """
        for layer in self.parallel_modules:
            if isinstance(layer, FCALayer):
                in_norm = layer.norm.modules() if layer.norm is not None else ()
                for linear in (layer.to_q, layer.to_out, *(part for part in in_norm if isinstance(part, nn.Linear))):
                    if linear.weight.dtype == torch.float32:  # bfloat16 weights compute in bfloat16 on every base
                        linear.to(dtype)

    def wait(self, device: torch.device) -> None:
        """For predictions on a device with little memory: what is used once per clip waits in main memory, each module comes to
        the device for its turn; the rest goes there. The same bits come out.

        Called where the adapter is in main memory.
        """
        once: list[tuple[nn.Module, nn.Module]] = [(module, module) for module in self.text_modules]
        once += [(layer, nn.ModuleList([layer.to_k, layer.to_v])) for layer in self.layers if isinstance(layer, FCALayer)]
        self._waiting = {module: (Waiting(part, device), device) for module, part in once}
        for waiting, _ in self._waiting.values():
            waiting.hide()
        self.to(device)
        for waiting, _ in self._waiting.values():
            waiting.take_out()

    @property
    def waiting_bytes(self) -> int:
        """Of main memory, page-locked beside a CUDA device, in which modules wait."""
        return sum(waiting.buffer.nbytes for waiting, _ in self._waiting.values())

    def _there(self, module: nn.Module) -> AbstractContextManager[None]:
        """Inside, what conditioning needs of a module is on the device."""
        if module not in self._waiting:
            return nullcontext()
        waiting, device = self._waiting[module]
        return waiting.visiting(device)

    # ---------------------------------------------------------------- as a thing to train, keep and use

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.named_parameters())

    def in_order_of_use(self) -> list[nn.Parameter]:
        """The same as a forward pass comes to them: text modules, W_k and W_v of all layers, then the rest layer by layer.
        Gradients arrive the other way round."""
        keys = [part for layer in self.layers if isinstance(layer, FCALayer) for part in (layer.to_k, layer.to_v, layer.norm_k)]
        first = [parameter for part in (*self.text_modules, *keys) for parameter in part.parameters()]
        known = set(map(id, first))
        return first + [parameter for _, parameter in self.trainable() if id(parameter) not in known]

    def state(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def for_pipeline(self, pipeline: Any, frames: np.ndarray, text: str, guidance_scale: float = 6.0) -> dict[str, Any]:
        """Arguments for a diffusers CogVideoXPipeline that predicts the clip beginning with `frames`; see model/pipeline.py.

        Raises:
            FcaError: of fca-in-context; a diffusers pipeline has no place for extra latent frames.
        """
        if isinstance(self.config, InContextFCAConfig):
            raise FcaError("fca-in-context cannot run in a plain diffusers pipeline", "fca predict")
        from fcacli.model.pipeline import pipeline_arguments

        return pipeline_arguments(self, pipeline, frames, text, guidance_scale)


def _behind(
    front: Tensor | None, base: CogVideoX, x_t: Tensor, t: Tensor, text: Tensor, attention_kwargs: dict[str, Any] | None
) -> Tensor:
    """The base's call on [front ; x_t], the output of what stands in front dropped."""
    if front is None:
        return base.denoise(x_t, t, text, attention_kwargs)
    x_t = torch.cat([front.to(x_t.dtype), x_t], dim=1)
    return base.denoise(x_t, t, text, attention_kwargs)[:, front.shape[1] :]


def fill_temporal_patch(latents: Tensor, temporal_patch: int) -> Tensor:
    """Repeat the last latent of (B, F, C, h, w) until F is a multiple of the temporal patch."""
    missing = -latents.shape[1] % temporal_patch
    return torch.cat([latents, *[latents[:, -1:]] * missing], dim=1)
