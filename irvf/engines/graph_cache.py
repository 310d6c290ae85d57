"""Decides what is captured as a CUDA graph, what is kept, and what follows when it fails; knows nothing of CUDA."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_logger = logging.getLogger(__name__)

Work = Callable[[], None]
Key = TypeVar("Key", bound=Hashable)
Held = TypeVar("Held", bound=Work)


class GraphCache(Generic[Key, Held]):
    """Work of several kinds, each of which is captured when it is about to be done for the second time.

    Attributes:
        failure: why a capture failed; empty otherwise. After the first failure all work is done step by step.

    Args:
        make: returns work of a kind; it holds what it works on.
        capture: makes of work something that repeats it with one call, without doing it; None captures nothing.
        limit: kinds that are kept; the one that was not done for the longest time is dropped.
    """

    def __init__(self, make: Callable[[Key], Held], capture: Callable[[Work], Work] | None, limit: int) -> None:
        self._make, self._capture, self._limit = make, capture, limit
        self._held: OrderedDict[Key, tuple[Held, Work | None]] = OrderedDict()
        self.failure = ""

    def prepare(self, key: Key) -> tuple[Held, Work]:
        """Return work of a kind, and what does it: itself, or what was captured of it."""
        if key not in self._held:
            while len(self._held) >= self._limit:
                self._held.popitem(last=False)  # before the new one needs memory
            held = self._make(key)
            self._held[key] = (held, None)
            return held, held
        self._held.move_to_end(key)
        held, graph = self._held[key]
        if graph is None and self._capture is not None and not self.failure:
            try:
                graph = self._capture(held)
            except Exception as error:  # noqa: BLE001  (whatever it is: the same can be done without)
                self.failure = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
                _logger.warning("no CUDA graph, each step is launched by itself: %s", self.failure)
            self._held[key] = (held, graph)
        return held, graph or held

    def forget(self, key: Key) -> None:
        """Drop work of a kind, whose state is uncertain."""
        self._held.pop(key, None)
