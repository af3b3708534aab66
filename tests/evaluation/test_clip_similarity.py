"""CLIP similarity against transformers' own code on the bundled small CLIP, in both forms that weights come in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fcacli.errors import FcaError
from fcacli.evaluation.clip_similarity import ClipSimilarity

BUNDLED = Path(__file__).parents[2] / "fcacli" / "mini" / "weights" / "clip"
TEXT = "pushing red cup left"


@pytest.fixture(scope="module")
def similarity() -> ClipSimilarity:
    return ClipSimilarity(BUNDLED)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy, to spoil."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "clip"))


def video(frames: int = 3, height: int = 70, width: int = 95) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def by_transformers(frames: np.ndarray, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of frames (T, d) and of a text (d,), by its model, processor and tokenizer."""
    import transformers

    maker = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    model = transformers.CLIPModel.from_pretrained(BUNDLED, dtype=torch.float32).eval()
    pixels = maker.from_pretrained(BUNDLED)(list(frames), return_tensors="pt")["pixel_values"]
    tokens = transformers.AutoTokenizer.from_pretrained(BUNDLED)([text], return_tensors="pt")
    with torch.inference_mode():
        out = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=pixels)
    return out.image_embeds.double().numpy(), out.text_embeds[0].double().numpy()


@pytest.mark.parametrize(("height", "width"), [(70, 95), (48, 48), (97, 30)])
def test_it_equals_transformers_own_code(similarity, height, width):
    frames = video(3, height, width)
    seen, read = by_transformers(frames, TEXT)
    scores = similarity.frame_text(frames, TEXT)
    assert scores.dtype == np.float64 and scores.shape == (3,)
    assert scores == pytest.approx(seen @ read, abs=2e-6)
    assert similarity.frame_init(frames[1:], frames[0]) == pytest.approx(seen[1:] @ seen[0], abs=2e-6)


def test_it_knows_a_frame_again_and_tells_captions_apart(similarity):
    from fcacli.mini.world import sample_clip

    clips = [sample_clip(2, i, "base") for i in range(12)]
    frames = np.stack([clip.video()[5] for clip in clips])
    assert similarity.frame_init(frames[:1], frames[0]) == pytest.approx([1.0])
    own = np.array([similarity.frame_text(frame[None], clip.caption)[0] for frame, clip in zip(frames, clips, strict=True)])
    other = np.array(
        [similarity.frame_text(frame[None], clip.caption)[0] for frame, clip in zip(frames, clips[1:] + clips[:1], strict=True)]
    )
    assert own.mean() - other.mean() > 0.1


def test_a_frame_has_the_same_score_alone_and_among_others(similarity):
    frames = video(18)
    assert similarity.frame_text(frames, TEXT)[[0, 17]] == pytest.approx(
        [similarity.frame_text(frames[t : t + 1], TEXT)[0] for t in (0, 17)], abs=1e-6
    )


def test_a_long_caption_is_cut_where_clip_ends(similarity):
    assert np.isfinite(similarity.embed_text("red cup " * 100)).all()


def test_weights_saved_by_torch_are_read_as_tensors(folder, similarity):
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors") | {"text_model.embeddings.position_ids": torch.arange(20)[None]}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert np.array_equal(ClipSimilarity(folder).frame_text(video(), TEXT), similarity.frame_text(video(), TEXT))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors or pytorch_model.bin"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"PK no"), "cannot read .*model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot load CLIP"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json or vocab.json"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot load CLIP"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("[]"), "cannot load CLIP"),
    ],
)
def test_a_damaged_folder_is_one_error(folder, change, said):
    change(folder)
    with pytest.raises(FcaError, match=said) as error:
        ClipSimilarity(folder)
    assert "fca weights" in error.value.hint


def test_weights_of_another_size_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 32}))
    with pytest.raises(FcaError, match=r"projection.weight is \(64, 96\), not \(32, 96\)"):
        ClipSimilarity(folder)
