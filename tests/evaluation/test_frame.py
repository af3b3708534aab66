"""Per-frame metrics against an independent implementation, golden numbers, and the traps of the protocol."""

import numpy as np
import pytest

from fcacli.evaluation.frame import psnr, ssim


def _videos(frames: int = 3, height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    smooth = np.add.outer(np.arange(height), np.arange(width))[None, :, :, None] * np.array([2, 1, 1])
    truth = np.clip(smooth + rng.normal(0, 20, (frames, height, width, 3)), 0, 255).astype(np.uint8)
    return np.clip(truth + rng.normal(0, 25, truth.shape), 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize(("height", "width"), [(40, 56), (11, 11), (48, 48), (37, 64)])
def test_ssim_equals_scikit_image_with_gaussian_window(height: int, width: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    prediction, truth = _videos(2, height, width)
    expected = [
        metrics.structural_similarity(
            a / 255.0, b / 255.0, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(prediction, truth, strict=True)
    ]
    assert np.abs(ssim(prediction, truth) - expected).max() < 1e-10


def test_psnr_equals_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    prediction, truth = _videos()
    expected = [metrics.peak_signal_noise_ratio(b, a) for a, b in zip(prediction, truth, strict=True)]
    assert np.abs(psnr(prediction, truth) - expected).max() < 1e-10


def test_golden_numbers() -> None:
    prediction, truth = _videos()
    assert psnr(prediction, truth) == pytest.approx([20.7338654848, 20.6059701283, 20.7451496504], abs=1e-9)
    assert ssim(prediction, truth) == pytest.approx([0.5740571153, 0.577591291, 0.5700294229], abs=1e-9)


def test_psnr_is_per_frame_not_pooled() -> None:
    truth = np.full((2, 16, 16, 3), 128, np.uint8)
    prediction = truth.copy()
    prediction[0] += 1
    prediction[1] += 64
    mean, pooled = psnr(prediction, truth).mean(), -10 * np.log10((1 + 64**2) / 2 / 255**2)
    assert mean == pytest.approx((20 * np.log10(255) + 20 * np.log10(255 / 64)) / 2)
    assert mean - pooled > 14


def test_psnr_does_not_wrap_unsigned_bytes() -> None:
    dark, bright = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    assert psnr(dark, bright)[0] == pytest.approx(0.0)
    assert psnr(bright, dark)[0] == pytest.approx(0.0)


def test_equal_frames_score_perfectly() -> None:
    _, truth = _videos()
    assert np.isinf(psnr(truth, truth)).all()
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_scores_of_a_frame_do_not_depend_on_its_neighbours() -> None:
    prediction, truth = _videos(5)
    alone = [float(ssim(prediction[t : t + 1], truth[t : t + 1])[0]) for t in range(5)]
    assert ssim(prediction, truth).tolist() == alone


def test_unlike_shapes_are_refused() -> None:
    prediction, truth = _videos()
    with pytest.raises(ValueError, match="cannot compare"):
        psnr(prediction[:2], truth)
