"""Fake tensors, counted; what torch has once found out about an operation on tensors of some shapes is not found out again.

FakeTensorMode has a memory of that kind, behind some hundred questions for each operation. A plan asks the same few of them
ten thousand times, so here a shorter key comes first; whatever it does not cover goes the usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

from fcacli.planning.live import Meter

DEVICE = torch.ops.prim.device.default
IN_PLACE, VIEW, UNKNOWN = "in place", "view", "unknown"
"""Results that are the first argument; that lie in its memory; that torch has to find out each time."""
KNOWN: dict[Any, Any] = {}
"""By operation and what its arguments are like; of the whole process, as torch's own."""


@dataclass(frozen=True)
class Fresh:
    """A result in memory of its own."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class CountingFakes(FakeTensorMode):
    """All that is computed inside is fake, and counted."""

    def __init__(self, meter: Meter):
        super().__init__(allow_non_fake_inputs=True)
        self._meter, self._inside = meter, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is DEVICE:  # two of three calls
            return torch.device("meta") if self.in_kernel_invocation else args[0].fake_device
        if self._inside:  # torch finds out a result's shape by a slower form of the operation, which has results of its own
            return super().__torch_dispatch__(func, types, args, kwargs)
        kwargs = kwargs or {}
        if func.is_view and type(args[0]) is FakeTensor and args[0].constant is None:
            results = self._seen(func, args, kwargs)
        else:
            results = self._again(func, types, args, kwargs)
        self._meter.made(func, args, results)
        return results

    def _again(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        key = self._key(func, args, kwargs)
        known: Any = KNOWN.get(key, UNKNOWN) if key is not None else UNKNOWN
        if known is IN_PLACE:
            return args[0]
        if known is VIEW:
            return self._seen(func, args, kwargs)
        if known is not UNKNOWN:
            return self._made(known)
        results = self._found_out(func, types, args, kwargs)
        if key is not None and key not in KNOWN:
            KNOWN[key] = self._kind(func, args, kwargs, results)
        return results

    # ---------------------------------------------------------------- results

    def _found_out(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """torch's own way."""
        self._inside = True
        try:
            results = super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._inside = False
        self.fake_tensor_converter.meta_converter.tensor_memo.clear()  # of new parameters; peft could not convert them
        return results

    def _seen(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation on what the fakes are made of, which shares memory as it should."""
        with in_kernel_invocation_manager(self):
            results = func(*args, **kwargs)
        device = args[0].fake_device
        if isinstance(results, Tensor):
            return FakeTensor(self, results, device)
        return [FakeTensor(self, result, device) for result in results]

    def _made(self, known: tuple[Callable[[Any], Any] | None, Sequence[Fresh | None]]) -> Any:
        kind, results = known
        made = [self._fresh(result) if result is not None else None for result in results]
        return made[0] if kind is None else kind(made)

    def _fresh(self, of: Fresh) -> FakeTensor:
        elements = torch.empty_strided(of.shape, of.stride, dtype=of.dtype, device="meta")
        return FakeTensor(self, elements, of.device)

    # ---------------------------------------------------------------- what is known

    def _key(self, func: Any, args: Any, kwargs: Any) -> Any:
        """All that decides what the results are like, so no factors; None where there is more to it."""
        try:
            given = args if torch.Tag.pointwise not in func.tags else [float if type(one) is float else one for one in args]
            named = [(name, self._described(kwargs[name])) for name in kwargs]
            key = (func, torch.get_default_dtype(), self._described(given), *named)
            hash(key)
        except TypeError:  # a real tensor, or what cannot be compared
            return None
        return key

    def _described(self, value: Any) -> Any:
        kind = type(value)
        if kind is FakeTensor:
            if value.fake_mode is not self or value.constant is not None:
                raise TypeError
            return value.dtype, value.shape, value.stride(), value.fake_device
        if isinstance(value, Tensor):
            raise TypeError
        if kind is tuple or kind is list:
            return (kind, *[self._described(one) for one in value])
        return kind, value  # True is not 1

    def _kind(self, func: Any, args: Any, kwargs: Any, results: Any) -> Any:
        """How such results are made again."""
        several = isinstance(results, tuple | list)
        each = list(results) if several else [results]
        if not each or not all(one is None or (type(one) is FakeTensor and one.constant is None) for one in each):
            return UNKNOWN
        first = args[0] if args and type(args[0]) is FakeTensor else None
        if any(argument.alias_info is not None and argument.alias_info.is_write for argument in func._schema.arguments):
            whole = first is not None and results is first  # not a list of tensors, of which nothing comes back
            return IN_PLACE if whole and torch.Tag.inplace_view not in func.tags else UNKNOWN
        there = {_memory(one) for one in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        made = [_memory(one) for one in each if one is not None]
        if first is not None and None not in each and set(made) == {_memory(first)}:
            return VIEW
        if there & set(made) or len(set(made)) < len(made):
            return UNKNOWN
        fresh = [None if one is None else Fresh(tuple(one.shape), one.stride(), one.dtype, one.fake_device) for one in each]
        again = ((list if isinstance(results, list) else tuple) if several else None, fresh)
        return again if [_size(one) for one in each] == [_size(one) for one in _listed(self._made(again))] else UNKNOWN


def _listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, tuple | list) else [results]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _size(tensor: Tensor | None) -> tuple[int, int] | None:
    """Bytes of its memory, and where it begins there."""
    return None if tensor is None else (tensor.untyped_storage().nbytes(), int(tensor.storage_offset()))
