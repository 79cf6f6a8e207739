"""Work in threads: in order, and over at once when whoever waits for it leaves."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch
from torch import nn

from assay.evaluate.ladder import ladder
from assay.evaluate.measure import Plan, measure
from assay.threads import in_threads, leave_if_asked
from assay.threat import ThreatModel

LONG_S = 60.0


def wait(_: object = None) -> None:
    """Work of a minute that asks now and then, as an attack does with every pass."""
    until = time.monotonic() + LONG_S
    while time.monotonic() < until:
        leave_if_asked()
        time.sleep(0.001)


def test_results_come_in_the_order_of_the_items() -> None:
    with in_threads(3) as each:
        assert list(each(lambda number: number**2, range(100))) == [number**2 for number in range(100)]


def test_ctrl_c_ends_the_calls_in_flight_and_begins_none() -> None:
    begun, started = [], time.monotonic()
    both = threading.Barrier(3)

    def work(number: int) -> None:
        begun.append(number)
        both.wait()
        wait()

    def interrupt() -> None:
        both.wait()
        time.sleep(0.2)  # whoever waits has handed all items over by then
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt), in_threads(2) as each:
        list(each(work, range(10)))
    assert time.monotonic() - started < LONG_S / 2
    assert sorted(begun) == [0, 1]


def test_an_error_of_one_call_ends_the_others() -> None:
    def work(number: int) -> None:
        if number == 0:
            raise ValueError("the first")
        wait()

    started = time.monotonic()
    with pytest.raises(ValueError, match="the first"), in_threads(2) as each:
        list(each(work, range(4)))
    assert time.monotonic() - started < LONG_S / 2


def test_outside_of_threads_nobody_is_asked_to_leave() -> None:
    leave_if_asked()
    with pytest.raises(ValueError, match="left"):
        leave()
    leave_if_asked()


def leave() -> None:
    with in_threads(1) as each:
        next(each(lambda number: number, range(3)))
        raise ValueError("left")


class Interrupting(nn.Module):
    """A linear model that sends Ctrl-C in the fifth pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if self.passes == 5:
            os.kill(os.getpid(), signal.SIGINT)
        total = x.flatten(1).sum(1)
        return torch.stack([total, -total], 1)


def test_an_attack_in_flight_ends_when_nobody_waits_for_it() -> None:
    """Of a million steps, each of a pass or more, it is left after a few."""
    model = Interrupting().eval()
    threat = ThreatModel(norm="linf", epsilon=1e-9)
    plan = Plan(threats=(threat,), rungs=ladder({"pgd": {"steps": 1_000_000, "restarts": 1}}))
    with pytest.raises(KeyboardInterrupt):
        measure(model, torch.full((4, 8), 0.5), torch.zeros(4, dtype=torch.int64), plan)
    assert model.passes < 100_000
