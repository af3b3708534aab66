"""Bases: how a name becomes one, what loads, frame counts, and pixels in and out."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from einops import rearrange
from small import CLIP, KINDS, random_frames

from fcacli.config import ClipConfig
from fcacli.errors import FcaError, Misuse
from fcacli.mini.world import sample_clip
from fcacli.model.bases import DEFAULTS, hub, load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.frames import latent_frames, patched_frames, safe_frames

MakeBase = Callable[..., CogVideoX]


# ---------------------------------------------------------------- names


def test_auto_without_cuda_is_the_miniature_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec = resolve_base("auto")
    assert spec.name == "mini" and "no CUDA device" in spec.reason


def put_in_cache(cache: Path, hub_id: str, files: list[str]) -> None:
    """A model as the hub's cache holds it, with empty files."""
    model = cache / f"models--{hub_id.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    for file in files:
        (model / "snapshots" / ("0" * 40) / file).parent.mkdir(parents=True, exist_ok=True)
        (model / "snapshots" / ("0" * 40) / file).touch()


PIPELINE = ["model_index.json", "tokenizer/spiece.model", "scheduler/scheduler_config.json"]
PIPELINE += [f"{part}/{file}" for part in ("transformer", "vae", "text_encoder") for file in ("config.json", "a.safetensors")]
ENCODER = ["config.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("gib", "pipeline", "encoder", "name"),
    [
        (80, PIPELINE, ENCODER, "CogVideoX-2b"),
        (8, PIPELINE, ENCODER, "mini"),
        (80, PIPELINE[:-1], ENCODER, "mini"),
        (80, PIPELINE, ENCODER[:-1], "mini"),
        (80, [], [], "mini"),
    ],
    ids=["all there", "small card", "no text encoder", "no image encoder", "nothing there"],
)
def test_auto_with_cuda_takes_what_is_on_the_machine_and_asks_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: int, pipeline: list[str], encoder: list[str], name: str
) -> None:
    import socket

    class Device:
        total_memory = gib * 2**30

    def refused(*args: object) -> None:
        raise AssertionError("the network was asked")

    for hub_id, files in (("zai-org/CogVideoX-2b", pipeline), ("openai/clip-vit-large-patch14", encoder)):
        if files:
            put_in_cache(tmp_path, hub_id, files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Device)
    spec = resolve_base("auto")
    assert spec.name.endswith(name) and spec.reason
    assert ("--base cogvideox-2b --gpu-memory 7GiB finds options that fit" in spec.reason) == (gib == 8)
    if name != "mini":
        assert hub.local_folder.__wrapped__(spec.source, hub.PIPELINE_FILES).is_dir()  # nor when it is loaded
        assert hub.local_folder.__wrapped__(spec.image_encoder, hub.ENCODER_FILES).is_dir()
        folder = hub.in_cache(spec.source, hub.PIPELINE_NEEDS)
        names = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
        (folder / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(names))
        assert hub.in_cache(spec.source, hub.PIPELINE_NEEDS) is None  # a shard is missing
    assert name != "mini" or gib < 20 or "--base cogvideox-2b fetches it" in spec.reason


@pytest.mark.parametrize("name", ["cogvideox-2b", "THUDM/CogVideoX-2b", "zai-org/CogVideoX-2b"])
def test_known_names_need_no_network(name: str) -> None:
    spec = resolve_base(name)
    assert spec.source == "zai-org/CogVideoX-2b" and spec.defaults == DEFAULTS["cogvideox-2b"][1]


def test_resolving_loads_no_torch() -> None:
    code = "import sys; from fcacli.model.bases import resolve_base; resolve_base('mini'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_base_is_misuse() -> None:
    with pytest.raises(Misuse, match="unknown base 'nonsense'"):
        resolve_base("nonsense")


def test_unreachable_hub_model_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FcaError, match=r"cannot fetch someone/model.*no network") as caught:
        resolve_base("someone/model")
    assert "hf download someone/model" in caught.value.hint and "--base FOLDER" in caught.value.hint
    with pytest.raises(FcaError, match="cannot fetch zai-org/CogVideoX-2b"):
        _ = load_base(resolve_base("cogvideox-2b"), dtype=torch.float32).transformer


def test_folder_of_another_kind_is_one_clear_error(tmp_path: Path, tiny_base_folder: Path) -> None:
    with pytest.raises(FcaError, match=r"no model_index\.json"):
        resolve_base(str(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    with pytest.raises(FcaError, match="holds a WanPipeline; fca adapts CogVideoXPipeline"):
        resolve_base(str(tmp_path))
    shutil.copytree(tiny_base_folder, tmp_path / "broken")
    base = load_base(resolve_base(str(tmp_path / "broken")))
    (tmp_path / "broken" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "broken" / "text_encoder")
    with pytest.raises(FcaError, match="cannot load the vae"):
        _ = base.vae
    with pytest.raises(FcaError, match="has no text_encoder/"):
        _ = base.text_encoder


def test_folder_defaults_come_from_its_configuration(tiny_base_folder: Path, tmp_path: Path) -> None:
    row = resolve_base(str(tiny_base_folder)).defaults
    assert (row.frames, row.width, row.height, row.adapter_width, row.text_width) == (16, 32, 32, 32, 16)
    shutil.copytree(tiny_base_folder, tmp_path / "bare")
    (tmp_path / "bare" / "fca.json").unlink()
    row = resolve_base(str(tmp_path / "bare")).defaults
    assert (row.frames, row.width, row.height, row.adapter_width) == (16, 32, 32, 32)


def test_fingerprint_follows_content_not_place(tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_base(resolve_base(str(tiny_base_folder))).fingerprint
    shutil.copytree(tiny_base_folder, tmp_path / "copy")
    assert load_base(resolve_base(str(tmp_path / "copy"))).fingerprint == first
    weights = tmp_path / "copy" / "clip" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert load_base(resolve_base(str(tmp_path / "copy"))).fingerprint != first
    # files too large to read whole
    monkeypatch.setattr(hub, "_WHOLE", 100)
    monkeypatch.setattr(hub, "_SAMPLE", 64)
    sampled = hub.fingerprint(tiny_base_folder)
    assert sampled == hub.fingerprint(tmp_path / "copy")
    config = tmp_path / "copy" / "vae" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert sampled != hub.fingerprint(tmp_path / "copy")


# ---------------------------------------------------------------- tokenizers


@pytest.mark.parametrize("with_config", [True, False])
def test_sentencepiece_only_tokenizer_loads(tiny_base_folder: Path, tmp_path: Path, with_config: bool) -> None:
    import sentencepiece

    folder = tmp_path / "base"
    shutil.copytree(tiny_base_folder, folder)
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    sentences = ["pushing red cup left", "lifting blue box up then letting it drop down", "covering green ball with cloth"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_prefix=str(folder / "tokenizer" / "spiece"),
        vocab_size=34,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer" / "spiece.vocab").unlink()
    if with_config:
        config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 226, "pad_token": "<pad>"}
        (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    base = load_base(resolve_base(str(folder)))
    features, mask = base.encode_text(["pushing red cup left", ""])
    assert features.shape == (2, 12, 24)
    assert mask[0].sum() > 2 and mask[1].sum() == 1
    plain = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer" / "spiece.model"))
    expected = plain.encode("pushing red cup left")[:11]
    assert base.tokenizer("pushing red cup left").input_ids[: len(expected)] == expected


def test_text_is_encoded_as_the_pipeline_does(make_base: MakeBase) -> None:
    base = make_base()
    expected = base.pipeline()._get_t5_prompt_embeds(["pushing red cup"], max_sequence_length=12)
    assert torch.equal(base.encode_text(["pushing red cup"])[0], expected)


# ---------------------------------------------------------------- frame counts


def test_frame_counts() -> None:
    assert [safe_frames(count) for count in (1, 2, 5, 8, 9, 12, 13, 16, 17, 18, 49)] == [1, 8, 8, 8, 9, 16, 16, 16, 17, 24, 49]
    assert [safe_frames(count, 2) for count in (1, 12, 16, 17, 49, 81)] == [8, 16, 16, 24, 56, 88]
    assert [latent_frames(count) for count in (1, 2, 9, 16, 17)] == [1, 1, 3, 4, 5]
    assert [patched_frames(count, 2) for count in (1, 2, 4)] == [1, 1, 2]


@pytest.mark.parametrize("kind", ["absolute", "temporal_patch"])
@pytest.mark.parametrize("count", [2, 5, 8, 9, 12, 16, 17])
def test_every_clip_length_survives_encode_and_decode(make_base: MakeBase, kind: str, count: int) -> None:
    base = make_base(kind)
    clip = ClipConfig(frames=count, init_frames=1, width=32, height=32, fps=8)
    latents = base.encode_video(random_frames(count))
    assert tuple(latents.shape) == base.latent_shape(clip)
    assert len(latents) % base.temporal_patch == 0
    assert base.decode(latents, count).shape == (count, 32, 32, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_initial_frames_are_encoded_alone_without_padding(make_base: MakeBase, count: int) -> None:
    assert len(make_base().encode_init(random_frames(count))) == latent_frames(count)


@pytest.mark.parametrize("size", [(40, 36), (33, 32)])
def test_sizes_that_do_not_fit_name_one_that_does(make_base: MakeBase, size: tuple[int, int]) -> None:
    with pytest.raises(Misuse, match="multiple of 8") as caught:
        make_base().latent_shape(ClipConfig(frames=16, init_frames=2, width=size[0], height=size[1], fps=8))
    assert caught.value.hint.startswith("take ")


class Transparent:
    """A VAE that keeps every pixel and counts frames as CogVideoX's does: a latent is four frames, the first of an odd
    number is one."""

    def encode(self, video: torch.Tensor) -> SimpleNamespace:
        if video.shape[2] % 8 == 1:
            video = torch.cat([video[:, :, :1]] * 3 + [video], 2)
        latents = rearrange(video, "b c (f four) h w -> b (four c) f h w", four=4)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        video = rearrange(latents, "b (four c) f h w -> b c (f four) h w", four=4)
        return SimpleNamespace(sample=video[:, :, 3:] if latents.shape[2] % 2 else video)


@pytest.mark.parametrize("count", [9, 12, 16, 17, 20])
@pytest.mark.parametrize("kind", ["absolute", "temporal_patch"])
def test_given_frame_i_is_output_frame_i(make_base: MakeBase, kind: str, count: int) -> None:
    base = make_base(kind)
    base.config("vae")
    base._parts["vae"] = Transparent()
    frames = random_frames(count)
    assert np.array_equal(base.decode(base.encode_video(frames), count), frames)


@pytest.mark.parametrize("count", [16, 17])
def test_given_frame_i_is_output_frame_i_on_the_miniature(count: int) -> None:
    """A scene that moves a pixel a frame: no given frame comes back later or earlier by a latent (4 frames)."""
    base = load_base(resolve_base("mini"))
    still = sample_clip(0, 3).video()[0]
    frames = np.stack([np.roll(still, index, axis=1) for index in range(count)])
    decoded = base.decode(base.encode_video(frames), count).astype(float)
    for given in (0, 1):
        distances = np.square(decoded[given] - frames.astype(float)).mean((1, 2, 3))
        assert abs(int(distances.argmin()) - given) <= 1


# ---------------------------------------------------------------- pixels


def test_decode_rounds_and_clips(make_base: MakeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base()
    values = torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.0, 9.0])

    class Decoded:
        sample = values.reshape(1, 1, 1, 1, 6).expand(1, 3, 8, 1, 6)

    monkeypatch.setattr(base.vae, "decode", lambda latents: Decoded)
    assert base.decode(torch.zeros(2, 4, 1, 1), 8)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]


def test_video_goes_in_and_out_as_in_the_pipeline(make_base: MakeBase) -> None:
    base = make_base()
    frames = random_frames(16)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        posterior = base.vae.encode(video).latent_dist
        latents = base.encode_video(frames)
        expected = base.pipeline().decode_latents(latents[None])[0].permute(1, 2, 3, 0)
    torch.testing.assert_close(latents, posterior.mode()[0].permute(1, 0, 2, 3) * base.vae.config.scaling_factor)
    assert torch.equal(latents, base.encode_video(frames))  # the mode: no noise
    pixels = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().numpy()
    assert np.abs(base.decode(latents, 16) - pixels).max() <= 1


def test_rotary_embedding_is_the_pipelines(make_base: MakeBase) -> None:
    for kind in ("rotary", "temporal_patch"):
        base = make_base(kind)
        expected = base.pipeline()._prepare_rotary_positional_embeddings(32, 32, 4, torch.device("cpu"))
        got = base.rotary(4, 8, 8)
        assert got is not None and all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert make_base("absolute").rotary(4, 8, 8) is None


def test_patches_of_both_given_frames_in_order(make_base: MakeBase) -> None:
    base = make_base()
    frames = random_frames(2)
    patches = base.encode_image(frames)
    assert patches.shape == (2 * 16, 16)
    torch.testing.assert_close(patches[:16], base.encode_image(frames[:1]))
    torch.testing.assert_close(patches[16:], base.encode_image(frames[1:]))


def test_parts_load_when_used_and_unload(make_base: MakeBase) -> None:
    base = make_base()
    assert base.latent_shape(CLIP) == (4, 4, 8, 8) and base.d == 32 and base.layers == 2 and base.head_dim == 16
    assert base._parts == {}
    assert not any(parameter.requires_grad for parameter in base.vae.parameters()) and not base.vae.training
    assert set(base._parts) == {"vae"}
    base.unload("vae", "text_encoder")
    assert base._parts == {}


def test_text_of_another_length_is_refused(make_base: MakeBase) -> None:
    with pytest.raises(FcaError, match=r"5 tokens; .* takes exactly 12"):
        make_base().denoise(torch.zeros(1, 4, 4, 8, 8), torch.tensor([1]), torch.zeros(1, 5, 24))


def test_a_size_beyond_the_positions_of_cogvideox_1_5_is_refused(make_base):
    """Other kinds have positions for any size."""
    for kind in KINDS:
        base = make_base(kind)
        wide = base.config("transformer")["sample_width"] * base.stride + 32
        clip = ClipConfig(frames=16, init_frames=2, width=wide, height=32, fps=8)
        if kind == "temporal_patch":
            with pytest.raises(Misuse, match="positions"):
                base.check_clip(clip)
        else:
            base.check_clip(clip)
