"""Claims about the objective: draws are pure, the loss is CogVideoX's own, the held-out loss repeats."""

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from fcacli.model.target import target
from fcacli.training.objective import draw, held_out_loss

SHAPE = (4, 4, 8, 8)


def scheduler() -> CogVideoXDDIMScheduler:
    return CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)


def one(slots: list[int], seed: int = 3, step: int = 7, per_step: int = 8):
    return draw(seed, step, slots, per_step, SHAPE, 1000, 0.3)


def test_draw_is_a_function_of_its_arguments_alone():
    torch.manual_seed(1)
    first = one([0, 1, 2])
    torch.rand(5)
    second = one([0, 1, 2])
    assert torch.equal(first.noise, second.noise)
    assert torch.equal(first.timesteps, second.timesteps)
    assert torch.equal(first.dropped, second.dropped)


def test_draw_does_not_depend_on_the_split_into_micro_batches():
    whole, halves = one(list(range(8))), [one([0, 1, 2, 3]), one([4, 5, 6, 7])]
    assert torch.equal(whole.noise, torch.cat([half.noise for half in halves]))
    assert torch.equal(whole.timesteps, torch.cat([half.timesteps for half in halves]))


@pytest.mark.parametrize("other", [{"seed": 4}, {"step": 8}])
def test_draw_differs_between_seeds_and_steps(other):
    assert not torch.equal(one([0]).noise, one([0], **other).noise)


def test_draw_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    one([0, 1])
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_step_covers_all_noise_levels():
    for step in range(20):
        timesteps = one(list(range(8)), step=step).timesteps
        assert (timesteps // 125).tolist() == list(range(8))


def test_a_power_below_one_moves_time_steps_to_more_noise_and_changes_no_other_draw():
    plain, noisy = (draw(3, 7, list(range(8)), 8, SHAPE, 1000, 0.3, power) for power in (1.0, 0.5))
    assert torch.equal(plain.noise, noisy.noise) and torch.equal(plain.dropped, noisy.dropped)
    shares = noisy.timesteps / 1000
    assert torch.allclose(shares**2, plain.timesteps / 1000, atol=0.003)
    assert (shares**2 * 8).int().tolist() == list(range(8))


def test_captions_are_dropped_at_the_given_rate():
    dropped = torch.cat([one(list(range(8)), step=step).dropped for step in range(250)])
    assert abs(dropped.float().mean().item() - 0.3) < 0.03


def test_velocity_error_equals_weighted_clean_error():
    """1 / (1 - alpha) times the squared error of x_0 is the squared error of v: CogVideoX's loss is plain MSE on v."""
    noise_scheduler = scheduler()
    generator = torch.Generator().manual_seed(0)
    x_0, noise, output = (torch.randn(5, *SHAPE, generator=generator) for _ in range(3))
    timesteps = torch.tensor([1, 200, 500, 800, 999])
    alpha = noise_scheduler.alphas_cumprod[timesteps].float()[:, None, None, None, None]
    x_t = noise_scheduler.add_noise(x_0, noise, timesteps)
    clean = alpha.sqrt() * x_t - (1 - alpha).sqrt() * output
    weighted = ((clean - x_0) ** 2 / (1 - alpha)).mean(dim=(1, 2, 3, 4))
    plain = ((output - target(noise_scheduler, x_0, noise, timesteps)) ** 2).mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(weighted, plain, rtol=1e-3, atol=1e-4)


def test_target_follows_the_scheduler():
    x_0, noise = torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)
    for kind, expected in (("epsilon", noise), ("sample", x_0)):
        other = CogVideoXDDIMScheduler(prediction_type=kind)
        assert torch.equal(target(other, x_0, noise, torch.tensor([500])), expected)


class Echo:
    """A base and adapter in one that gives back what it is given: its loss depends on noise and level alone."""

    scheduler = scheduler()
    known_latents = 0

    def condition(self, base, given):
        return None

    def denoise(self, base, x_t, t, text, condition):
        return x_t


def held_out_batch(ids: list[str]) -> dict:
    n = len(ids)
    latents = torch.stack([torch.full(SHAPE, float(len(name))) for name in ids])
    empty = torch.zeros(n, 1, 1)
    return {"ids": ids, "latents": latents, "init_latents": latents[:, :1], "image": empty, "text": empty, "text_mask": empty}


def test_held_out_loss_leaves_out_what_is_known():
    """An error of 1000 in the first latent does not count where it is not the model's own output."""

    class Wrong(Echo):
        known_latents = 1

        def denoise(self, base, x_t, t, text, condition):
            return torch.cat([1000 + x_t[:, :1], x_t[:, 1:]], dim=1)

    wrong, echo = Wrong(), Echo()
    batch = held_out_batch(["a", "bb"])
    assert held_out_loss(wrong, wrong, [batch])["held_out"] < 2 * held_out_loss(echo, echo, [batch])["held_out"]


def test_held_out_loss_repeats_and_ignores_batching():
    echo = Echo()
    torch.manual_seed(1)
    together = held_out_loss(echo, echo, [held_out_batch(["a", "bb"])])
    torch.manual_seed(2)
    again = held_out_loss(echo, echo, [held_out_batch(["a", "bb"])])
    apart = held_out_loss(echo, echo, [held_out_batch(["a"]), held_out_batch(["bb"])])
    assert together == again
    assert together == pytest.approx(apart, rel=1e-6)
    assert set(together) == {"held_out", *(f"held_out/{level}" for level in (0.1, 0.3, 0.5, 0.7, 0.9))}
