"""What long-running work says about itself: plain values, handed to one callable, rendered by the console alone."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a named phase; the first event of a phase opens its bar, done == total closes it.

    `total` is None where it is unknown. `info` holds a few short values for the bar's end, e.g. {"loss": "0.21"}.
    """

    phase: str
    done: int
    total: int | None
    info: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One line for a person. `level` "detail" is shown with -v only; "note" unless -q; "warning" always."""

    text: str
    level: Literal["detail", "note", "warning"] = "note"


Event = Progress | Message
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """The report for callers from Python who want none."""


def track(items: Iterable[T], report: Report, phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """Yield `items`, reporting progress of `phase` before the first and after each; `done` were finished earlier."""
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    report(Progress(phase, done, total))
    for item in items:
        yield item
        done += 1
        report(Progress(phase, done, total))
