"""CLIP similarity: the cosine between what CLIP (Radford et al., 2021) makes of a frame and of a text or another frame.

PROTOCOL.md, "Per-frame metrics": frame-text and frame-to-initial-frame. The cosine itself, neither clipped nor times 100.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.errors import FcaError
from fcacli.evaluation.precision import exactly
from fcacli.evaluation.state_dict import load_strictly, read_tensors
from fcacli.evaluation.weights import missing_of_clip, weights_file

CONDITIONS = "cosine; frames resized as CLIP was trained: short side to its size (bicubic), centre crop; text cut at its length"
CHUNK = 16
"""Frames that go through the image tower at a time."""
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class ClipSimilarity:
    """A CLIP in transformers' layout, both towers, in float32.

    Args:
        folder: config.json, preprocessor_config.json, the tokenizer's files, and weights that are plain tensors.

    Raises:
        FcaError: something in the folder is missing or damaged.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import torch
        import transformers

        self.folder, self.device = folder, torch.device(device)
        if lost := missing_of_clip(folder):
            raise FcaError(f"{folder} is not a CLIP folder: it has no {', no '.join(lost)}", "fca weights --fetch clip")
        weights = weights_file("clip", folder)
        try:
            self.model = _fresh(folder)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
            self.preprocess = _Preprocessing(json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8")))
        except Exception as error:  # transformers raises all kinds for a damaged folder
            cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise FcaError(f"cannot load CLIP from {folder}: {cause}", "fca weights --fetch clip") from error
        load_strictly(self.model, read_tensors(weights), weights, optional=r"position_ids$")
        self.model.to(self.device).eval().requires_grad_(False)

    def frame_text(self, video: np.ndarray, text: str) -> np.ndarray:
        """Cosine of every frame of uint8 (P, H, W, 3) with a caption: (P,) float64."""
        return self.embed_frames(video) @ self.embed_text(text)

    def frame_init(self, video: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Cosine of every frame of uint8 (P, H, W, 3) with one given frame, uint8 (H, W, 3): (P,) float64."""
        return self.embed_frames(video) @ self.embed_frames(frame[None])[0]

    def embed_frames(self, video: np.ndarray) -> np.ndarray:
        """Unit vectors of uint8 (P, H, W, 3): (P, d) float64."""
        import torch

        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3:
            raise ValueError(f"expected uint8 (P, H, W, 3) frames, got {video.dtype} {video.shape}")
        parts = []
        with exactly():
            for start in range(0, len(video), CHUNK):
                pixels = np.stack([self.preprocess(frame) for frame in video[start : start + CHUNK]])  # (B, 3, s, s)
                seen = self.model.vision_model(torch.from_numpy(pixels).to(self.device)).pooler_output
                parts.append(self.model.visual_projection(seen))
            return _unit(torch.cat(parts).double().cpu().numpy())

    def embed_text(self, text: str) -> np.ndarray:
        """The unit vector of a caption: (d,) float64."""

        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer([text], truncation=True, max_length=length, return_tensors="pt").input_ids.to(self.device)
        with exactly():
            read = self.model.text_projection(self.model.text_model(tokens).pooler_output)
        return _unit(read.double().cpu().numpy())[0]


def _fresh(folder: Path) -> Any:
    """The CLIPModel that config.json describes; its weights, which are all replaced, must not move the caller's seed."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        return transformers.CLIPModel(transformers.CLIPConfig.from_pretrained(folder, local_files_only=True))


class _Preprocessing:
    """What preprocessor_config.json says, as CLIP's own code does it: Pillow's bicubic filter on bytes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.short, self.crop = _edge(config["size"]), _edge(config.get("crop_size", config["size"]))
        self.mean, self.deviation = (np.asarray(config[name], np.float32) for name in ("image_mean", "image_std"))

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (3, crop, crop)."""
        from PIL import Image

        height, width = frame.shape[:2]
        scale = self.short / min(height, width)
        size = (max(self.short, int(width * scale)), max(self.short, int(height * scale)))  # width first
        resized = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        top, left = (size[1] - self.crop) // 2, (size[0] - self.crop) // 2
        cut = resized[top : top + self.crop, left : left + self.crop].astype(np.float32) / 255
        return ((cut - self.mean) / self.deviation).transpose(2, 0, 1)


def _edge(size: int | dict[str, int]) -> int:
    """The number of pixels in `{"shortest_edge": 224}`, `{"height": 224, "width": 224}` or 224."""
    return size if isinstance(size, int) else size.get("shortest_edge", size.get("height", 0))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
