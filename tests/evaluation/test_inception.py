"""FID's Inception against a second implementation, on seeded weights in a file named and shaped as the published one is."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fcacli.errors import FcaError
from fcacli.evaluation.inception import Inception, InceptionFeatures

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights that keep the numbers alive through 17 blocks; running statistics that are not the identity."""
    seed = torch.Generator().manual_seed(4)
    tensors = {}
    for name, value in Inception().state_dict().items():
        noise = torch.randn(value.shape, generator=seed)
        if name.endswith("running_var"):
            tensors[name] = 0.5 + noise.abs()
        elif name.endswith("bn.weight"):
            tensors[name] = 1 + 0.2 * noise.abs()
        elif value.ndim == 4:
            tensors[name] = noise * (2 / value[0].numel()) ** 0.5
        else:
            tensors[name] = 0.1 * noise
    return {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def path(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def extractor(path) -> InceptionFeatures:
    return InceptionFeatures(path)


def video(frames: int, height: int = 40, width: int = 56, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_features_equal_the_network_written_a_second_time(state, extractor):
    from inception_by_hand import features

    pictures = torch.from_numpy(video(2)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = features(state, pictures).double().numpy()
    measured = extractor([video(2)])
    assert measured.shape == (2, 2048) and measured.dtype == np.float64
    assert expected.std() > 1e-3  # alive
    assert np.abs(measured - expected).max() < 1e-4 * np.abs(expected).max()


def test_one_row_a_frame_video_after_video_whatever_their_size(extractor):
    one, other = video(1), video(2, 64, 33, seed=2)
    together = extractor([one, other])
    apart = np.concatenate([extractor([other[1:]]), extractor([one])])
    assert together.shape == (3, 2048)
    assert np.abs(together[[2, 0]] - apart).max() < 1e-4 * np.abs(apart).max()
    assert extractor([]).shape == (0, 2048)


def test_its_identity_is_that_of_the_file(extractor, path):
    import hashlib

    assert hashlib.sha256(path.read_bytes()).hexdigest() in extractor.identity
    assert "299" in extractor.identity


def test_the_network_has_the_numbers_of_the_published_file():
    """95,628,359 bytes, of which names and the archive's own take some 87,000."""
    weights = sum(value.numel() for name, value in Inception().state_dict().items() if "num_batches" not in name)
    assert 0 < 95_628_359 - 4 * weights < 100_000


def test_another_file_is_refused(state, tmp_path):
    for name, change in (
        ("lacks fc.weight", {"fc.weight": None}),
        ("has AuxLogits.fc.bias", {"AuxLogits.fc.bias": torch.ones(1)}),
    ):
        torch.save({key: value for key, value in (state | change).items() if value is not None}, tmp_path / "other.pth")
        with pytest.raises(FcaError, match=name):
            InceptionFeatures(tmp_path / "other.pth")
