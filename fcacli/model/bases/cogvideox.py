"""CogVideoX 1.0 and 1.5 (2B, 5B, and any pipeline of that class): its parts, and video, text and images in and out of them.

T pixel frames · F latent frames · C, h, w latent channels, height, width · L text tokens · P image patches
frames  uint8 (T, H, W, 3) RGB  ->  latents (F, C, h, w), scaled as the transformer sees them
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from fcacli.config import ClipConfig, Keeping
from fcacli.errors import FcaError, Misuse, naming_memory
from fcacli.model.bases import parts
from fcacli.model.bases.frames import latent_frames, safe_frames
from fcacli.model.bases.hub import PIPELINE_FILES, fingerprint, local_folder
from fcacli.model.compiling import require_compiler

if TYPE_CHECKING:
    from fcacli.model.bases import BaseSpec


class CogVideoX:
    """A frozen CogVideoX whose parts are loaded one at a time, when first used, and can be freed again.

    Args:
        spec: from `resolve_base`.
        device: where parts are put.
        dtype: of all parts; None takes float32 on the CPU and for small bases, bfloat16 elsewhere.
    """

    def __init__(self, spec: BaseSpec, device: str | torch.device = "cpu", dtype: torch.dtype | None = None):
        self.spec = spec
        self.device = torch.device(device)
        self._parts: dict[str, Any] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._rotary: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
        self._folder: Path | None = None
        self._fingerprint: str | None = None
        self.keeping = Keeping()
        if dtype is None:
            dtype = torch.float32 if self.device.type == "cpu" or self.d < 1024 else torch.bfloat16
        self.dtype = dtype

    @classmethod
    def from_pipeline(cls, pipeline: Any, spec: BaseSpec) -> CogVideoX:
        """A base made of a loaded diffusers CogVideoXPipeline; its parts are shared, not copied."""
        base = cls(spec, pipeline._execution_device, pipeline.transformer.dtype)
        base._parts = {name: getattr(pipeline, name) for name in parts.LOADERS if hasattr(pipeline, name)}
        return base

    @property
    def kind(self) -> str:
        """Of the device: "cuda" or "cpu"."""
        return self.device.type

    # ---------------------------------------------------------------- parts

    @property
    def folder(self) -> Path:
        """Where the files lie; a hub model is fetched first."""
        if self._folder is None:
            self._folder = local_folder(self.spec.source, PIPELINE_FILES)
        return self._folder

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            with naming_memory(f"loading the {name.replace('_', ' ')}", "a smaller --base, or end other programs"):
                self._parts[name] = parts.LOADERS[name](self, name)
        return self._parts[name]

    transformer = property(lambda self: self._part("transformer"), doc="CogVideoXTransformer3DModel, frozen.")
    vae = property(lambda self: self._part("vae"), doc="AutoencoderKLCogVideoX, frozen.")
    text_encoder = property(lambda self: self._part("text_encoder"), doc="T5EncoderModel, frozen.")
    tokenizer = property(lambda self: self._part("tokenizer"), doc="The T5 tokenizer.")
    image_encoder = property(lambda self: self._part("image_encoder"), doc="CLIPVisionModel, frozen.")
    scheduler = property(lambda self: self._part("scheduler"), doc="The pipeline's own DDIM or DPM scheduler.")

    def keep(self, keeping: Keeping) -> None:
        """Choose how what is loaded from now on is kept in memory; the transformer is freed if it is there.

        Raises:
            Misuse: more blocks would wait in main memory than there are.
            FcaError: they would be compiled, and what that needs is not here.
        """
        if keeping.block_swap > self.layers:
            raise Misuse(
                f"--block-swap {keeping.block_swap}: {self.spec.name} has {self.layers} blocks", f"--block-swap {self.layers}"
            )
        if keeping.compile:
            require_compiler(self.device)
        if keeping != self.keeping:
            self.unload("transformer")
        self.keeping = keeping

    def unload(self, *names: str) -> None:
        """Free parts by name; they are loaded again when next used."""
        for name in names:
            self._parts.pop(name, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def pipeline(self) -> Any:
        """A diffusers CogVideoXPipeline of the same parts, to compare with what diffusers does."""
        from diffusers import CogVideoXPipeline

        return CogVideoXPipeline(self.tokenizer, self.text_encoder, self.vae, self.transformer, self.scheduler)

    def config(self, name: str) -> dict[str, Any]:
        """A part's config.json, without loading its weights."""
        if name not in self._configs:
            self._configs[name] = parts.read_config(self, name, self._parts.get(name))
        return self._configs[name]

    @property
    def fingerprint(self) -> str:
        """Of the pipeline's and the image encoder's configuration and weights; equal for equal files, wherever they lie."""
        if self._fingerprint is None:
            encoder = self.spec.image_encoder
            image = fingerprint(Path(encoder), (".",)) if Path(encoder).is_dir() else encoder
            self._fingerprint = parts.combine(fingerprint(self.folder), image)
        return self._fingerprint

    # ---------------------------------------------------------------- geometry

    @property
    def d(self) -> int:
        """Width of the transformer."""
        return self.config("transformer")["num_attention_heads"] * self.head_dim

    @property
    def head_dim(self) -> int:
        return self.config("transformer")["attention_head_dim"]

    @property
    def layers(self) -> int:
        return self.config("transformer")["num_layers"]

    @property
    def text_length(self) -> int:
        """L, tokens to which captions are padded."""
        return self.config("transformer")["max_text_seq_length"]

    @property
    def temporal_patch(self) -> int:
        """Latent frames per token frame: 1 for CogVideoX 1.0, 2 for 1.5."""
        return self.config("transformer").get("patch_size_t") or 1

    @property
    def stride(self) -> int:
        """Pixels per latent, in height and width."""
        return 2 ** (len(self.config("vae")["block_out_channels"]) - 1)

    def check_clip(self, clip: ClipConfig) -> None:
        """
        Raises:
            Misuse: width or height are no multiple of the token size, or more than the positions of a CogVideoX 1.5 reach.
        """
        transformer = self.config("transformer")
        multiple = self.stride * transformer["patch_size"]
        for name, pixels in (("width", clip.width), ("height", clip.height)):
            if pixels % multiple:
                near = max(multiple, round(pixels / multiple) * multiple)
                raise Misuse(f"{name} {pixels} is not a multiple of {multiple}, which {self.spec.name} needs", f"take {near}")
            most = transformer[f"sample_{name}"] * self.stride
            if self.temporal_patch > 1 and transformer["use_rotary_positional_embeddings"] and pixels > most:
                raise Misuse(f"{name} {pixels} is more than {self.spec.name} has positions for", f"at most {most}")

    def latent_shape(self, clip: ClipConfig) -> tuple[int, int, int, int]:
        """(F, C, h, w) of a clip's latents.

        Raises:
            Misuse: the clip does not fit this base.
        """
        self.check_clip(clip)
        frames = latent_frames(safe_frames(clip.frames, self.temporal_patch))
        channels = self.config("vae")["latent_channels"]
        return frames, channels, clip.height // self.stride, clip.width // self.stride

    # ---------------------------------------------------------------- in and out

    @torch.no_grad()
    def encode_video(self, frames: np.ndarray) -> Tensor:
        """Frames (..., T, H, W, 3) to latents (..., F, C, h, w); T is brought to a safe count by repeating the last frame."""
        padding = safe_frames(frames.shape[-4], self.temporal_patch) - frames.shape[-4]
        return self._encode(np.concatenate([frames, *[frames[..., -1:, :, :, :]] * padding], axis=-4))

    @torch.no_grad()
    def encode_init(self, frames: np.ndarray) -> Tensor:
        """The given frames (..., T0, H, W, 3), encoded alone, to latents (..., F0, C, h, w)."""
        return self._encode(frames)

    def _encode(self, frames: np.ndarray) -> Tensor:
        video = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device, self.dtype) / 127.5 - 1
        batch = video.reshape(-1, *video.shape[-4:])
        posterior = self.vae.encode(rearrange(batch, "b t h w c -> b c t h w")).latent_dist
        # diffusers' invert_scale_latents concerns the image latents of the 1.5 image-to-video pipeline, not these
        latents = rearrange(posterior.mode(), "b c f h w -> b f c h w") * self.config("vae")["scaling_factor"]
        return latents.reshape(*video.shape[:-4], *latents.shape[1:])

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int) -> np.ndarray:
        """Latents (F, C, h, w) to uint8 frames (T, H, W, 3), the first `frames` of them."""
        return rearrange(self.pixels(latents, frames), "c t h w -> t h w c").cpu().numpy()

    @torch.no_grad()
    def pixels(self, latents: Tensor, frames: int) -> Tensor:
        """Latents (F, C, h, w) to uint8 (3, T, H, W) on the device, the first `frames` of them.

        In tiles the VAE's norms see less of a frame: colours differ slightly between tiles, which are blended.
        """
        latents = latents.to(self.device, self.dtype) / self.config("vae")["scaling_factor"]
        with parts.in_tiles(self.vae, self.stride) if self.keeping.vae_tiling else nullcontext():
            video = self.vae.decode(rearrange(latents, "f c h w -> 1 c f h w")).sample[0, :, :frames]
        return ((video.float() / 2 + 0.5) * 255).clamp(0, 255).round().to(torch.uint8)

    @torch.no_grad()
    def encode_text(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions to text features (n, L, d_text) and the mask of real tokens (n, L) bool.

        As the pipeline does it: padded to L, and the encoder gets no attention mask.
        """
        tokens = self.tokenizer(
            captions,
            padding="max_length",
            max_length=self.text_length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        features = self.text_encoder(tokens.input_ids.to(self.device))[0].to(self.dtype)  # (n, L, d_text)
        return features, tokens.attention_mask.bool().to(self.device)

    @torch.no_grad()
    def encode_image(self, frames: np.ndarray) -> Tensor:
        """The given frames (T0, H, W, 3) to ViT patch features (P, d_image), P = T0 * patches, class tokens left out."""
        pixels = parts.normalise_images(frames, self.config("image_encoder"), self.config("image_preprocessor"))
        # copied: NumPy's memory begins anywhere, and a CPU may round by where a tensor begins
        features = self.image_encoder(torch.from_numpy(pixels).to(self.device, self.dtype, copy=True)).last_hidden_state
        return rearrange(features[:, 1:], "t p d -> (t p) d")

    # ---------------------------------------------------------------- the transformer

    def rotary(self, frames: int, height: int, width: int) -> tuple[Tensor, Tensor] | None:
        """(cos, sin), each (F*N, d_head), for latents (F, C, h, w); None where positions are absolute."""
        if not self.config("transformer")["use_rotary_positional_embeddings"]:
            return None
        key = (frames, height, width)
        if key not in self._rotary:
            self._rotary[key] = parts.rotary_embedding(self.config("transformer"), *key, self.device)
        return self._rotary[key]

    def patch_embed(self, latents: Tensor, text: Tensor) -> Tensor:
        """Latents (B, F, C, h, w) as video tokens (B, F*N, d), before the first block."""
        return self.transformer.patch_embed(text.to(self.dtype), latents.to(self.dtype))[:, text.shape[1] :]

    def denoise(self, x_t: Tensor, t: Tensor, text: Tensor, attention_kwargs: dict[str, Any] | None = None) -> Tensor:
        """The transformer as it stands: x_t (B, F, C, h, w), t (B,), text (B, L, d_text) to its output (B, F, C, h, w)."""
        if text.shape[1] != self.text_length:
            raise FcaError(f"the text has {text.shape[1]} tokens; {self.spec.name} takes exactly {self.text_length}")
        frames, _, height, width = x_t.shape[1:]
        return self.transformer(
            hidden_states=x_t.to(self.dtype),
            encoder_hidden_states=text.to(self.dtype),
            timestep=t,
            image_rotary_emb=self.rotary(frames, height, width),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0]
