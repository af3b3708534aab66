"""The processes that do one command together: one alone, or several with the same weights, each with its share of the work.

Everything random is a function of step and slot, or of a clip's seed, so it does not matter which process computes what.
Gradients are averaged by DistributedDataParallel; only the trained tensors are its business, so nothing of the frozen base is
ever sent. The main process, rank 0, is the only one that writes what belongs to all.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fcacli.errors import FcaError, ProcessLost, memory_of
from fcacli.events import Report
from fcacli.training.interrupt import Signals, watch, watch_launched

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long processes wait for the main one, which may encode or validate for hours; the death of one is noticed at once."""
LOST = (
    *("gloo", "closed by peer", "closed by remote peer", "reset by peer", "broken pipe"),
    *("ncclremoteerror", "remote process exit", "nccl communicator was aborted", "nccl watchdog"),
)
"""What torch says when another process does not answer any more, in lower case."""

KEPT: list[Any] = []
"""Groups of this process, for good: torch 2.7 lets go of one with Python's lock held, for which the group's own thread may be
waiting, and neither goes on."""

Losses = Callable[..., Tensor]


class Team(Protocol):
    """The processes of one command; every method is called by all of them, in the same order."""

    rank: int
    size: int
    in_step: bool
    """Whether no process can go on where another has failed, as where they share weights: it then ends at once."""

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's of the items, every so many-th; where they do not come out even the last one again, so that all do
        as many."""

    def by_main(self, work: Callable[..., T], *given: Any) -> T:
        """What `work` gives in the main process, for all; or the FcaError that it raised."""

    def by_all(self, work: Callable[..., T], *given: Any) -> list[T]:
        """What `work` gives in each process, by rank; or, in all, the FcaError of the first of them that raised one."""

    def own(self, work: Callable[[], T]) -> T:
        """What `work` gives here, when all have done theirs; or, in all, the FcaError of the first that raised one."""

    def in_turn(self, count: int, work: Callable[..., list[T]], *given: Any) -> list[T]:
        """The so many items that `work` gives, in order, each process those of its `share`; or, in all, the FcaError."""

    def most(self, *values: int) -> tuple[int, ...]:
        """The largest of each value among the processes."""

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""

    def to_main(self, value: T) -> list[T]:
        """The same in the main process; nothing in the others, who go on as soon as theirs is sent."""

    def averaging(self, losses: Losses, parameters: Iterable[nn.Parameter]) -> Losses:
        """`losses` such that a backward pass leaves in each parameter the mean of all processes' gradients."""

    def apart(self, losses: Losses) -> AbstractContextManager[Any]:
        """Backward passes inside only add to this process's gradients; the next one outside averages them."""

    def naming_lost(self) -> AbstractContextManager[None]:
        """
        Raises:
            ProcessLost: instead of what torch says when another process has ended.
        """

    def watch(self, report: Report) -> AbstractContextManager[Signals]:
        """Note signals while it trains."""


class Alone:
    """One process."""

    rank, size, main, in_step = 0, 1, True, False

    def share(self, items: Sequence[T]) -> list[T]:
        return list(items)

    def by_main(self, work: Callable[..., T], *given: Any) -> T:
        return work(*given)

    def by_all(self, work: Callable[..., T], *given: Any) -> list[T]:
        return [work(*given)]

    def own(self, work: Callable[[], T]) -> T:
        return work()

    def in_turn(self, count: int, work: Callable[..., list[T]], *given: Any) -> list[T]:
        return work(*given)

    def most(self, *values: int) -> tuple[int, ...]:
        return values

    def gathered(self, value: T) -> list[T]:
        return [value]

    def to_main(self, value: T) -> list[T]:
        return [value]

    def averaging(self, losses: Losses, parameters: Iterable[nn.Parameter]) -> Losses:
        return losses

    def apart(self, losses: Losses) -> AbstractContextManager[Any]:
        return nullcontext()

    def naming_lost(self) -> AbstractContextManager[None]:
        return nullcontext()

    def watch(self, report: Report) -> AbstractContextManager[Signals]:
        return watch(report)


ALONE = Alone()


class Together:
    """Several processes, joined by `joined`.

    Args:
        control: a group on gloo, for what is not a gradient.
        again: the command that goes on where this one ends.
        launched: whether a launcher passes signals on to all of them.
    """

    def __init__(self, control: Any, again: str, launched: bool):
        import torch.distributed as dist

        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._control, self._again, self._launched = control, again, launched
        self.in_step = False

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        return [
            items[min(place, len(items) - 1)] for place in range(self.rank, -(-len(items) // self.size) * self.size, self.size)
        ]

    def by_main(self, work: Callable[..., T], *given: Any) -> T:
        if not self.main:
            result, error = self._told([None, None])
            if error is not None:
                raise FcaError(*error)
            return result
        try:
            result = work(*given)
        except FcaError as error:
            self._told([None, (error.message, error.hint, error.code)])
            raise
        self._told([result, None])
        return result

    def _told(self, values: list[Any]) -> list[Any]:
        """The main process's values."""
        import torch.distributed as dist

        with self.naming_lost():
            dist.broadcast_object_list(values, src=0, group=self._control)
        return values

    def by_all(self, work: Callable[..., T], *given: Any) -> list[T]:
        made: list[T] = []
        failure: FcaError | None = None
        try:
            made.append(work(*given))
        except FcaError as error:
            if self.in_step:
                raise
            failure = error
        told = self.gathered((made, (failure.message, failure.hint, failure.code) if failure else None))
        for rank, (_, failed) in enumerate(told):
            if failed is not None:
                raise failure if failure and rank == self.rank else FcaError(*failed)
        return [part[0] for part, _ in told]

    def own(self, work: Callable[[], T]) -> T:
        kept: list[T] = []
        self.by_all(lambda: kept.append(work()))
        return kept[0]

    def in_turn(self, count: int, work: Callable[..., list[T]], *given: Any) -> list[T]:
        by_rank = self.by_all(work, *given)
        return [by_rank[place % self.size][place // self.size] for place in range(count)]

    def most(self, *values: int) -> tuple[int, ...]:
        import torch.distributed as dist

        told = torch.tensor([int(value) for value in values])
        with self.naming_lost():
            dist.all_reduce(told, dist.ReduceOp.MAX, group=self._control)
        return tuple(told.tolist())

    def gathered(self, value: T) -> list[T]:
        import torch.distributed as dist

        told: list[Any] = [None] * self.size
        with self.naming_lost():
            dist.all_gather_object(told, value, group=self._control)
        return told

    def to_main(self, value: T) -> list[T]:
        import torch.distributed as dist

        told: list[Any] = [None] * self.size if self.main else []
        with self.naming_lost():
            dist.gather_object(value, told if self.main else None, dst=0, group=self._control)
        return told

    def averaging(self, losses: Losses, parameters: Iterable[nn.Parameter]) -> Losses:
        # after the first step torch would sort parameters into other buckets, and a sum over three processes or more depends on
        # where in a bucket a value lies: a continued run would not be the uninterrupted one. Looking for unused ones keeps them
        with self.naming_lost():
            trained = _Trained(losses, parameters)
            return nn.parallel.DistributedDataParallel(trained, gradient_as_bucket_view=True, find_unused_parameters=True)

    def apart(self, losses: Losses) -> AbstractContextManager[Any]:
        return losses.no_sync()  # type: ignore[attr-defined]

    def watch(self, report: Report) -> AbstractContextManager[Signals]:
        return watch_launched() if self._launched else watch(report)

    @contextmanager
    def naming_lost(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            said = str(error).lower()
            if any(words in said for words in LOST):
                raise ProcessLost("another process of this run has ended", self._again) from error
            if "nccl" not in said or memory_of(error):
                raise
            reason = next(line for line in reversed(str(error).splitlines()) if line.strip()).strip()
            raise FcaError(
                f"NCCL, which joins the GPUs, has failed: {reason}", f"NCCL_DEBUG=INFO {self._again}   (says more)"
            ) from error


class _Trained(nn.Module):
    """A loss function as a module that has the trained parameters, and one that is not used, so that torch, looking for such,
    does not warn that there is none."""

    def __init__(self, losses: Losses, parameters: Iterable[nn.Parameter]):
        super().__init__()
        self._losses = losses
        self.trained = nn.ParameterList(parameters)
        self.unused = nn.Parameter(torch.zeros(1, device=self.trained[0].device))

    def forward(self, *given: Any) -> Tensor:
        return self._losses(*given)


def without_broken_links() -> None:
    """Some GPUs (two of the RTX 40 series, with older drivers) cannot copy to each other directly: accelerate ends in an error
    on them unless NCCL is told, even where one alone is used."""
    from accelerate.utils import check_cuda_p2p_ib_support

    if not check_cuda_p2p_ib_support():
        for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
            os.environ.setdefault(name, "1")


@contextmanager
def joined(device: torch.device, again: str, launched: bool = True) -> Iterator[Together]:
    """Meet the other processes of a command; `again` is what goes on where it ends, `launched`: a launcher has started all.

    Raises:
        FcaError: they cannot be reached.
    """
    import torch.distributed as dist

    try:
        if device.type == "cuda":
            torch.cuda.set_device(device if device.index is not None else 0)
            without_broken_links()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        KEPT.extend((dist.group.WORLD, control))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FcaError(f"the processes of this run cannot meet at {where}: {reason}", "start all of them anew") from error
    yield Together(control, again, launched)
    dist.destroy_process_group()  # after an error the others may be gone: the process's end does it
