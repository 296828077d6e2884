"""Batches prepared ahead by one thread, handed over in step order."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from facequarry.datasets.disk.errors import TimedOut

T = TypeVar("T")

_JOIN_TIMEOUT_S = 2.0

logger = logging.getLogger(__name__)


class Prefetch(Generic[T]):
    """Iterates over `make(step)` for each step, `depth` of them ahead.

    What `make` raises is raised from the iterator, at the step it belongs to. Leaving the `with`
    block ends the thread.

    Args:
        make: makes one item; called from a thread of its own, in step order.
        steps: the steps to make.
        depth: items that may lie ready.
        timeout_s: longest wait for one item.
        what: names the item in sentences.
        while_waiting: called now and then, in the consumer's thread, while it waits for an item.
        poll_s: how often that is.
    """

    def __init__(
        self,
        make: Callable[[int], T],
        steps: range,
        *,
        depth: int,
        timeout_s: float,
        what: str = "batch",
        while_waiting: Callable[[], None] = lambda: None,
        poll_s: float = 0.1,
    ) -> None:
        self._make, self._steps = make, steps
        self._while_waiting, self._poll_s = while_waiting, poll_s
        self._timeout_s, self._what = timeout_s, what
        self._ready: queue.Queue[T | BaseException] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, name=f"prefetch-{what}", daemon=True)

    def __enter__(self) -> Prefetch[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while not self._ready.empty():  # frees a thread that waits to hand over its item
            self._ready.get_nowait()
        # A maker that waits for rows that never come must not hold up the error that ended us.
        self._thread.join(timeout=_JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning("the %s in the making was left to end by itself", self._what)

    def __iter__(self) -> Iterator[T]:
        for step in self._steps:
            item = self._wait(step)
            if isinstance(item, BaseException):
                raise item
            yield item

    def _wait(self, step: int) -> T | BaseException:
        deadline = time.monotonic() + self._timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                return self._ready.get(timeout=min(left_s, self._poll_s))
            except queue.Empty:
                self._while_waiting()
        raise TimedOut(f"no {self._what} for step {step} within {self._timeout_s:.0f} s")

    def _fill(self) -> None:
        for step in self._steps:
            try:
                item: T | BaseException = self._make(step)
            except BaseException as error:  # handed to the consumer, who raises it
                item = error
            while not self._stopped.is_set():
                try:
                    self._ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stopped.is_set() or isinstance(item, BaseException):
                return
