"""Fixtures that several parts share: a complete small base folder with random weights."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models run fastest on one thread; read when torch is imported

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: the processes that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started by nohup: pytest goes on not minding, its processes do
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_configure(config: pytest.Config) -> None:
    """Tests say what a CPU computes, where there is a GPU too; those of a GPU are asked for by -m gpu."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests fork come first: a build of torch with CUDA refuses backward passes in forks of a process that has
    made one on anything but the CPU, fake tensors included."""
    items.sort(key=lambda item: not any(hasattr(getattr(item, "module", None), name) for name in ("run_ranks", "ranks_of")))


TINY = {"frames": 16, "init_frames": 2, "width": 32, "height": 32, "fps": 8, "adapter_width": 32, "text_width": 16}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.'-"


def write_tiny_tokenizer(folder: Path) -> None:
    """A unigram tokenizer of words' beginnings and letters, in the fast format."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)] + [(letter, -3.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=12
    )
    fast.save_pretrained(folder)


def write_tiny_base(folder: Path, **transformer: object) -> Path:
    """A CogVideoXPipeline folder with clip/ and fca.json: 32x32 pixels, T=16, latents (4, 4, 8, 8), d=32, 2 layers, L=12.

    `transformer` overrides fields of its configuration.
    """
    import torch
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
    from transformers import CLIPConfig, CLIPModel, T5Config, T5EncoderModel

    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 16,
        "text_embed_dim": 24,
        "num_layers": 2,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 13,
        "max_text_seq_length": 12,
        "spatial_interpolation_scale": 1.0,
    }
    CogVideoXTransformer3DModel(**(config | transformer)).save_pretrained(folder / "transformer")
    AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_height=32,
        sample_width=32,
    ).save_pretrained(folder / "vae")
    text = T5Config(vocab_size=64, d_model=24, d_kv=12, num_heads=2, d_ff=32, num_layers=1, feed_forward_proj="gated-gelu")
    T5EncoderModel(text).save_pretrained(folder / "text_encoder")
    write_tiny_tokenizer(folder / "tokenizer")
    CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
    ).save_pretrained(folder / "scheduler")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = tower | {"image_size": 32, "patch_size": 8}
    CLIPModel(
        CLIPConfig(
            text_config=tower | {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 1}, vision_config=vision, projection_dim=8
        )
    ).save_pretrained(folder / "clip")
    names = {
        "_class_name": "CogVideoXPipeline",
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (folder / "model_index.json").write_text(json.dumps(names))
    (folder / "fca.json").write_text(json.dumps(TINY))
    torch.random.set_rng_state(state)
    return folder


@pytest.fixture(scope="session")
def tiny_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`write_tiny_base` once per session; read it, do not write into it."""
    return write_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def write_base() -> Callable[..., Path]:
    """`write_tiny_base(folder, **transformer)`, for bases of other kinds."""
    return write_tiny_base
