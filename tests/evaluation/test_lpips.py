"""LPIPS against a second implementation in numpy, on seeded weights in files named as the published ones are."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fcacli.errors import FcaError
from fcacli.evaluation.lpips import CHANNELS, AlexNetFeatures, Lpips

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}
"""torchvision's AlexNet below its classifier."""


@pytest.fixture(scope="module")
def tensors() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A trunk with its classifier, small so that the file is, and linear weights."""
    rng = np.random.default_rng(3)
    trunk = {}
    for name, shape in SHAPES.items():
        deviation = (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        trunk[f"{name}.weight"] = torch.from_numpy(rng.normal(0, deviation, shape)).float()
        trunk[f"{name}.bias"] = torch.from_numpy(rng.normal(0, 0.05, shape[0])).float()
    trunk |= {"classifier.6.weight": torch.zeros(10, 4), "classifier.6.bias": torch.zeros(10)}
    linear = {f"lin{n}.model.1.weight": torch.from_numpy(rng.random((1, c, 1, 1))).float() for n, c in enumerate(CHANNELS)}
    return trunk, linear


@pytest.fixture(scope="module")
def files(tensors, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(tensors[0], folder / "alexnet.pth")
    torch.save(tensors[1], folder / "alex.pth", _use_new_zipfile_serialization=False)  # the old form, as that file is
    return folder / "alexnet.pth", folder / "alex.pth"


def videos(frames: int = 2, height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return np.clip(truth + rng.normal(0, 40, truth.shape), 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize(("height", "width"), [(40, 56), (31, 33)])
def test_lpips_equals_the_formula_written_a_second_time(tensors, files, height, width):
    from lpips_by_hand import lpips

    arrays = [{name: value.double().numpy() for name, value in part.items()} for part in tensors]
    expected = lpips(*arrays, *videos(2, height, width))
    measured = Lpips(*files, precision="float64")(*videos(2, height, width))
    assert measured.dtype == np.float64 and measured.shape == (2,)
    assert np.abs(measured - expected).max() < 1e-10
    assert np.abs(Lpips(*files)(*videos(2, height, width)) - expected).max() < 1e-5 * max(expected)


def test_golden_numbers(files):
    assert Lpips(*files, precision="float64")(*videos()) == pytest.approx([0.1685176684, 0.1885071794], abs=1e-9)


def test_equal_frames_are_at_zero_and_order_does_not_matter(files):
    metric, (prediction, truth) = Lpips(*files), videos()
    assert metric(truth, truth).tolist() == [0.0, 0.0]
    assert metric(prediction, truth) == pytest.approx(metric(truth, prediction), rel=1e-9)


def test_a_frame_has_the_same_score_alone_and_among_others(files):
    metric, (prediction, truth) = Lpips(*files), videos(18, 32, 32)  # more than one chunk
    alone = [metric(prediction[t : t + 1], truth[t : t + 1])[0] for t in (0, 15, 17)]
    assert metric(prediction, truth)[[0, 15, 17]] == pytest.approx(alone, rel=1e-5)


def test_convolutions_are_whole_float32_on_a_gpu_too(files, monkeypatch):
    seen, metric, before = [], Lpips(*files), torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(metric.network, "forward", lambda _: iter(seen.append(torch.backends.cudnn.allow_tf32) or ()))
    with pytest.raises(ValueError):
        metric(*videos(1))
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32 == before


def test_making_it_does_not_move_the_seed(files):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    Lpips(*files)
    assert torch.equal(torch.rand(1), expected)


def test_frames_too_small_for_the_network_are_one_error(files):
    with pytest.raises(FcaError, match="at least 31x31 pixels, got 56x30"):
        Lpips(*files)(*videos(1, 30, 56))
    with pytest.raises(ValueError, match="cannot compare"):
        Lpips(*files)(videos(1)[0], videos(2)[1])


def test_the_files_must_hold_these_weights_and_no_others(tensors, files, tmp_path):
    trunk, _ = tensors
    for change, said in (
        ({"features.0.weight": None}, r"lacks features\.0\.weight"),
        ({"features.12.weight": torch.zeros(1)}, r"has features\.12\.weight besides"),
        ({"features.0.bias": torch.zeros(63)}, r"features\.0\.bias is \(63,\), not \(64,\)"),
        ({"features.0.bias": torch.full((64,), torch.nan)}, r"features\.0\.bias in .* is not finite"),
    ):
        torch.save({name: value for name, value in (trunk | change).items() if value is not None}, tmp_path / "trunk.pth")
        with pytest.raises(FcaError, match=said) as error:
            Lpips(tmp_path / "trunk.pth", files[1])
        assert "fca weights" in error.value.hint
    with pytest.raises(FcaError, match="does not hold the weights of LinearWeights"):
        Lpips(files[0], files[0])


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_could_run_code_is_not_run(files, tmp_path):
    marker = tmp_path / "ran"
    torch.save({"features.0.weight": _Bomb(marker)}, tmp_path / "bomb.pth")
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(_Bomb(marker)))
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    (tmp_path / "short.pth").write_bytes(files[0].read_bytes()[:1000])
    torch.jit.script(torch.nn.ReLU()).save(tmp_path / "script.pt")
    for name, said in {
        "bomb.pth": "holds more than tensors",
        "bomb.pkl": "holds more than tensors",
        "list.pth": "does not hold named tensors",
        "short.pth": "cannot read",
        "script.pt": "is a TorchScript archive",
        "missing.pth": "No such file",
    }.items():
        with pytest.raises(FcaError, match=f"{name}.*{said}|{said}.*{name}"):
            Lpips(tmp_path / name, files[1])
    assert not marker.exists()


class _Bomb:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_the_trunk_has_the_shapes_of_the_published_file():
    state = AlexNetFeatures().state_dict()
    assert {name.removesuffix(".weight"): tuple(value.shape) for name, value in state.items() if "weight" in name} == SHAPES
