"""Work in threads that ends when whoever waits for it does: a Ctrl-C does not wait for the attacks in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_here = threading.local()

__all__ = ["Each", "in_threads", "leave_if_asked"]


class Each(Protocol):
    """A function called for every item, by several threads at a time."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """What it gives for every item, in the order of the items."""
        ...


@contextmanager
def in_threads(count: int) -> Iterator[Each]:
    """So many threads while the block runs; see `Each`.

    When the block ends by an exception, calls that have not begun are dropped, and those that have end at their next
    `leave_if_asked`.
    """
    asked = threading.Event()

    def each(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        def one(item: T) -> R:
            _here.asked = asked
            return work(item)

        return pool.map(one, items)

    with ThreadPoolExecutor(count) as pool:
        try:
            yield each
        except BaseException:
            asked.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def leave_if_asked() -> None:
    """For long work to call now and then: ends it by KeyboardInterrupt when nobody waits for it any more."""
    asked: threading.Event | None = getattr(_here, "asked", None)
    if asked is not None and asked.is_set():
        raise KeyboardInterrupt
