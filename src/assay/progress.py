"""Progress of long work: the library says how far it is, whoever runs it decides whether to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Reporter = Callable[[str, int, int], None]

_reporter: ContextVar[Reporter | None] = ContextVar("assay_progress", default=None)

__all__ = ["Reporter", "reporting", "track"]


@contextmanager
def reporting(reporter: Reporter | None) -> Iterator[None]:
    """Send ``(what, done, total)`` to the reporter while the block runs."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, telling the reporter after each how many of ``total`` are done."""
    reporter = _reporter.get()
    for done, item in enumerate(items, 1):
        yield item
        if reporter is not None:
            reporter(what, done, total)
