"""Which kernels a training step takes: what is switched for it, and that all is as before after it."""

import pytest
import torch
from torch.backends.cuda import flash_sdp_enabled, math_sdp_enabled

from fcacli.errors import FcaError
from fcacli.training.kernels import repeatable, step_kernels


def switches() -> tuple[bool, bool, bool]:
    filled = torch.utils.deterministic.fill_uninitialized_memory
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(), filled


@pytest.mark.parametrize("warns", [False, True])
def test_inside_all_is_deterministic_without_a_warning_in_its_place_and_after_it_as_before(warns):
    torch.use_deterministic_algorithms(warns, warn_only=warns)
    try:
        before = switches()
        with pytest.raises(ValueError, match="in a step"), repeatable():
            assert switches() == (True, False, False), "warnings alone leave attention's backward pass as it is"
            raise ValueError("in a step")
        assert switches() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_operation_without_such_a_kernel_is_said_with_the_way_out():
    said = "put_ does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'. You can"
    with pytest.raises(FcaError, match=r"here: put_ does not have a deterministic implementation$") as error, repeatable():
        raise RuntimeError(said)
    assert "--no-deterministic" in error.value.hint and not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="another"), repeatable():
        raise RuntimeError("another")


@pytest.mark.parametrize("deterministic", [True, False])
def test_on_a_gpu_a_step_is_as_the_run_wants_it(make_config, deterministic):
    with step_kernels(make_config(deterministic=deterministic), torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert not torch.are_deterministic_algorithms_enabled()


def test_on_the_cpu_bfloat16_attention_is_matrix_products(make_config):
    for precision, flash in (("bf16", False), ("fp32", True)):
        with step_kernels(make_config(precision=precision), torch.device("cpu")):
            assert flash_sdp_enabled() == flash and math_sdp_enabled()
            assert not torch.are_deterministic_algorithms_enabled()
