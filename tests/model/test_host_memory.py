"""Freed memory is used again, not handed back and cleared anew."""

import os
import subprocess
import sys

import pytest
import torch

from fcacli.model.host_memory import in_main_memory, pages_not_forked

FAULTS = """
import resource, sys
import numpy as np
if sys.argv[1] == "keep":
    from fcacli.model.host_memory import keep_freed_memory
    keep_freed_memory()
def fill(): np.empty(64 * 2**20, np.uint8).fill(1)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4): fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_freed_tensor_s_pages_are_used_by_the_next():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "plain")
    }
    assert faults["keep"] < faults["plain"] / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's fork")
def test_what_is_locked_for_a_gpu_does_not_come_along_to_processes_that_load_clips():
    """A fork does not have the memory, and the process itself keeps it."""
    size = 2**22
    buffer = torch.frombuffer(pages_not_forked(size), dtype=torch.uint8)
    buffer.fill_(7)
    assert buffer.data_ptr() % 4096 == 0
    if (child := os.fork()) == 0:
        with open("/proc/self/maps") as maps:
            areas = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
        os._exit(any(low < buffer.data_ptr() + size and buffer.data_ptr() < high for low, high in areas))
    assert os.waitpid(child, 0)[1] == 0
    assert (buffer == 7).all()


@pytest.mark.parametrize("fails", [False, True])
def test_tensors_are_away_for_a_while_and_then_as_they_were(fails):
    parameters = [torch.nn.Parameter(torch.randn(3, 5).to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    before = [parameter.detach().clone() for parameter in parameters]
    hooks = [parameter.view_as(parameter).grad_fn.next_functions[0][0] for parameter in parameters]  # where DDP hangs on
    try:
        with in_main_memory(parameters) as kept:
            assert not any(parameter.untyped_storage().nbytes() for parameter in parameters)
            assert all(map(torch.equal, kept, before))
            if fails:
                raise MemoryError
    except MemoryError:
        pass
    assert all(map(torch.equal, parameters, before))
    assert hooks == [parameter.view_as(parameter).grad_fn.next_functions[0][0] for parameter in parameters]
