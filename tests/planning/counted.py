"""What a real call takes, by two counts that share nothing: live storages of real tensors, and the allocator's own events."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from fcacli.planning.live import Counting, Meter
from fcacli.planning.optimizer import COPIES_ON_CPU


def of_bitsandbytes(operation: Any, args: Any) -> int:
    """Bytes that an 8-bit step takes on a CPU for a moment."""
    return COPIES_ON_CPU * 4 * args[2].numel() if "optimizer_update_8bit" in str(operation) else 0


def counted(work: Callable[[Meter], object]) -> tuple[int, int]:
    """Peak bytes of live storages during `work`, which gets the meter, and of what torch's CPU allocator hands out.

    They differ by what operations take for themselves, which only the allocator sees; of bitsandbytes' it is added.
    """
    meter = Meter(also=of_bitsandbytes)
    gc.collect()  # what a test before has left in cycles would be freed on the way, and counted
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
        Counting(meter),
    ):
        work(meter)
    meter.mark("the rest")
    events: list[Any] = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = allocated = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        allocated = max(allocated, now)
    return max(meter.marks.values()), allocated
