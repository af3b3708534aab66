"""I3D against the same network written out, with seeded weights in the names of both public files."""

import pickle
from pathlib import Path

import pytest
import torch
from reference.plain_i3d import as_model_rgb, plain_logits, random_weights
from torch import Tensor, nn

from fcacli.errors import FcaError
from fcacli.evaluation.i3d import I3D, load_i3d, max_pool

STATE = random_weights()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(STATE, path)
    return path


@pytest.fixture(scope="module")
def network(weights) -> I3D:
    return load_i3d(weights)


def clips(count: int, frames: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, 3, frames, 224, 224, generator=torch.Generator().manual_seed(seed)) - 1


def apart(one: Tensor, other: Tensor) -> float:
    """Largest difference of logits, in units of their spread."""
    return float((one - other).abs().max() / other.std())


@pytest.mark.parametrize("frames", [16, 17])
@torch.inference_mode()
def test_logits_are_those_of_the_network_written_out(network, frames):
    video = clips(1, frames)
    assert apart(network(video), plain_logits(STATE, video, 1e-5)) < 1e-5


@pytest.mark.parametrize("frames", [9, 10, 11, 12, 13, 14, 15])
@torch.inference_mode()
def test_every_other_number_of_frames_has_logits(network, frames):
    logits = network(clips(1, frames))
    assert logits.shape == (1, 400) and bool(logits.isfinite().all())


@torch.inference_mode()
def test_a_batch_of_eight_has_the_logits_of_each_alone(network):
    video = clips(8, 9)
    logits = network(video)
    assert apart(logits[5:6], network(video[5:6])) < 1e-4
    assert apart(logits[4:5], logits[5:6]) > 1e-2


@pytest.mark.parametrize(
    "kernel,stride", [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))]
)
@pytest.mark.parametrize("shape", [(5, 8, 7), (9, 7, 8), (4, 14, 14)])
def test_pooling_by_axes_is_max_pooling_bit_for_bit(shape, kernel, stride):
    from torch.nn.functional import max_pool3d, pad

    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    lacks = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(shape, kernel, stride, strict=True)]
    around = [side for n in reversed(lacks) for side in (n // 2, n - n // 2)]
    assert torch.equal(max_pool(x, kernel, stride), max_pool3d(pad(x, around, value=-torch.inf), kernel, stride))


def test_both_public_namings_load_each_with_its_own_epsilon(tmp_path, network):
    torch.save(as_model_rgb(STATE), tmp_path / "model_rgb.pth")
    other = load_i3d(tmp_path / "model_rgb.pth")
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True))
    assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm3d)} == {1e-5}
    assert {module.eps for module in other.modules() if isinstance(module, nn.BatchNorm3d)} == {1e-3}
    assert {m.eps for m in load_i3d(tmp_path / "model_rgb.pth", 1e-5).modules() if isinstance(m, nn.BatchNorm3d)} == {1e-5}


def test_safetensors_and_files_without_counters_load_too(tmp_path):
    from safetensors.torch import save_file

    save_file({name: value for name, value in STATE.items() if "num_batches" not in name}, tmp_path / "i3d.safetensors")
    assert torch.equal(load_i3d(tmp_path / "i3d.safetensors").Mixed_4c.b2b.bn.bias, STATE["Mixed_4c.b2b.bn.bias"])


@pytest.mark.parametrize(
    "name,value",
    [
        ("Mixed_5c.b0.bn.bias", None),
        ("extra.weight", torch.zeros(3)),
        ("logits.conv3d.weight", torch.zeros(600, 1024, 1, 1, 1)),
        ("Mixed_3b.b1a.bn.running_var", torch.tensor([torch.nan] + [1.0] * 95)),
    ],
)
def test_weights_that_are_not_i3ds_to_the_last_tensor_are_refused_by_name(tmp_path, name, value):
    state = {**STATE, name: value}
    if value is None:
        del state[name]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(FcaError, match=name):
        load_i3d(tmp_path / "other.pt")


class Payload:
    """What runs a function when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_holds_more_than_tensors_is_refused_and_does_not_run(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save({**STATE, "run": Payload()}, tmp_path / "i3d.pt")
    with pytest.raises(FcaError, match="more than tensors"):
        load_i3d(tmp_path / "i3d.pt")
    assert not (tmp_path / "unpickled").exists()


def test_a_torchscript_archive_is_refused_with_how_to_convert_it(tmp_path):
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    with pytest.raises(FcaError, match="TorchScript") as refused:
        load_i3d(path)
    assert "state_dict" in refused.value.hint and "i3d_pretrained_400.pt" in refused.value.hint


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short", b"no weights" * 100])
def test_a_file_that_is_no_weights_is_one_error(tmp_path, content):
    path = tmp_path / "i3d.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FcaError, match=r"i3d\.pt"):
        load_i3d(path)


@pytest.mark.parametrize("shape", [(8, 224, 224), (16, 224, 240), (16, 48, 48)])
def test_too_few_frames_and_other_sizes_are_refused(network, shape):
    with pytest.raises(FcaError, match="at least 9 frames of 224x224"):
        network(torch.zeros(1, 3, *shape))
