"""Freed memory is used again, not handed back and cleared anew."""

import subprocess
import sys

import pytest

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
