"""On fake CPU tensors, what a CUDA device would compute: which operations, and what their kernels take."""

import pytest
import torch
from torch.nn import functional

from fcacli.model.functional import attend
from fcacli.planning.cuda import as_on_cuda, multiprocessors, workspace
from fcacli.planning.fakes import CountingFakes
from fcacli.planning.live import Meter


def norm_under_autocast() -> torch.Tensor:
    norm = torch.nn.LayerNorm(8, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return norm(torch.ones(2, 8, dtype=torch.bfloat16))


def test_layer_norms_are_float32_under_autocast_inside_and_bfloat16_after():
    assert norm_under_autocast().dtype == torch.bfloat16
    with as_on_cuda():
        assert norm_under_autocast().dtype == torch.float32
    assert norm_under_autocast().dtype == torch.bfloat16


def test_that_is_what_torch_registers_for_cuda():
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has("aten::layer_norm", "AutocastCUDA") and not has("aten::layer_norm", "AutocastCPU")


def peak_of_attention(length: int) -> int:
    meter = Meter(also=workspace(True))
    with CountingFakes(meter):
        query = torch.empty(1, 2, length, 16, requires_grad=True)
        attend(query, query, query).sum().backward()
    meter.mark("all")
    return meter.marks["all"]


def test_no_matrix_of_scores_is_kept_as_on_cuda():
    with as_on_cuda():
        fused = peak_of_attention(4096)
    assert fused < 2 * 4096 * 4096 * 4 < peak_of_attention(4096)


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_backward_pass_of_attention_takes_its_sums_in_float32(deterministic):
    """That gave 0.77 and 0.82 GiB, measured on an H200 (132 multiprocessors) with two copies of the gradient, for 30 and 48
    heads of 64 and 17,776 tokens."""
    seen, taken = [], workspace(deterministic)

    def noted(operation, args):
        seen.append(taken(operation, args))
        return seen[-1]

    with as_on_cuda(), CountingFakes(Meter(also=noted)):
        query = torch.empty(1, 2, 100, 64, requires_grad=True)
        functional.scaled_dot_product_attention(query, query, query).sum().backward()
    parts = multiprocessors() // 2 if deterministic else 1
    assert [size for size in seen if size] == [2 * 128 * (parts * 64 + 1) * 4]


@pytest.mark.parametrize("grain", [1, 512])
def test_a_storage_counts_once_and_until_nothing_holds_it(grain):
    meter = Meter(grain)
    with CountingFakes(meter):
        one = torch.empty(100, dtype=torch.uint8)
        view = one[10:]
        size = 100 if grain == 1 else 512
        assert meter.now == size
        del one
        assert meter.now == size
        two = view + 1
        del view
        assert meter.now == (90 if grain == 1 else 512)
        del two
    assert meter.now == 0
    meter.mark("all")
    assert meter.marks["all"] == size + (90 if grain == 1 else 512)


@pytest.mark.parametrize("dtype, taken", [(torch.bfloat16, 2 * (4 * 5 * 6 * 6 + 8 * 3 * 3 * 3)), (torch.float32, 0)])
def test_a_convolution_of_videos_in_16_bits_lays_out_input_and_output_anew(dtype, taken):
    seen = []

    def noted(operation, args):
        seen.append(workspace(True)(operation, args))
        return seen[-1]

    with CountingFakes(Meter(also=noted)):
        convolution = torch.nn.Conv3d(4, 8, 3, stride=(1, 2, 2), padding=(0, 1, 1), dtype=dtype)
        assert convolution(torch.zeros(1, 4, 5, 6, 6, dtype=dtype)).shape == (1, 8, 3, 3, 3)
        torch.nn.Conv2d(4, 8, 3, dtype=dtype)(torch.zeros(1, 4, 6, 6, dtype=dtype))
    assert max(seen) == taken and sum(map(bool, seen)) == bool(taken)
