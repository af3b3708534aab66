"""The miniature's autoencoder on a CPU: its convolutions as 2-D ones, and what they give."""

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from fcacli.mini.build import WEIGHTS
from fcacli.mini.world import sample_clip
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.narrow_convolution import NARROW, convolve_by_frame


def replaced(module: nn.Module) -> bool:
    return "forward" in vars(module)


def test_loaded_miniature_computes_as_diffusers_does_up_to_rounding() -> None:
    base = load_base(resolve_base("mini"))
    assert sum(map(replaced, base.vae.modules())) > 50
    plain = AutoencoderKLCogVideoX.from_pretrained(WEIGHTS / "vae").float().eval()
    video = torch.from_numpy(sample_clip(0, 0, "base").video()).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        latents, expected = base.vae.encode(video).latent_dist.mode(), plain.encode(video).latent_dist.mode()
        torch.testing.assert_close(latents, expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(base.vae.decode(expected).sample, plain.decode(expected).sample, atol=1e-4, rtol=0)


def test_each_kind_of_convolution_agrees_or_is_left_alone() -> None:
    torch.manual_seed(0)
    with_padding_in_space = nn.Conv3d(5, 7, 3, padding=(0, 1, 1))
    ours = [nn.Conv3d(5, 7, 3), nn.Conv3d(5, 7, 1), nn.Conv3d(5, 7, (3, 1, 1), bias=False), with_padding_in_space]
    others = [
        nn.Conv3d(5, 7, 3, padding=1),
        nn.Conv3d(5, 7, 3, stride=2),
        nn.Conv3d(5, 10, 3, groups=5),
        nn.Conv3d(5, NARROW + 1, 1),
        nn.Conv3d(5, 7, 3, padding="same"),
    ]
    video = torch.randn(2, 5, 6, 8, 9)
    for module in (*ours, *others):
        expected = module(video)
        convolve_by_frame(module)
        assert replaced(module) == (module in ours)
        torch.testing.assert_close(module(video), expected)
