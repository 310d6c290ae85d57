"""Threads that may be left behind: work that is awaited for a time only, since no thread can be ended from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

R = TypeVar("R")


class Call(Generic[R]):
    """Work that is done once, in another thread.

    Args:
        work: what to do.

    Attributes:
        ended: set once it is known what became of the work.
    """

    def __init__(self, work: Callable[[], R]) -> None:
        self.ended = threading.Event()
        self._error: Exception | None = None
        self._result: list[R] = []
        self._work = work
        self._lock = threading.Lock()
        self._on_return: Callable[[], None] | None = None

    def __call__(self) -> None:
        """Do the work."""
        try:
            self._result.append(self._work())
        except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
            self._error = error
        with self._lock:
            self.ended.set()
        on_return, self._on_return = self._on_return, None  # which may hold this call
        if on_return is not None:
            on_return()

    def take_error(self) -> Exception | None:
        """Return what the work raised, None where it did not; the second time it is forgotten.

        An error knows the frame that it was raised in, and that knows the call: kept, they would keep each other.
        """
        error, self._error = self._error, None
        return error

    @property
    def result(self) -> R:
        """What the work returned, once it has ended without an error and was not given up."""
        return self._result[0]

    def give_up(self, on_return: Callable[[], None]) -> bool:
        """Throw the result away and call ``on_return``, in the work's thread, when it comes after all.

        Returns:
            Whether the call was given up: not one that has ended already.
        """
        with self._lock:
            if self.ended.is_set():
                return False
            self._on_return = on_return
            return True


class EngineThread:
    """A thread that does one call after the other, and does not keep the process from ending where one hangs."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def begin(self, call: Callable[[], None]) -> None:
        """Have a call done after those that were begun before; returns at once."""
        self._calls.put(call)

    def end(self) -> None:
        """Let the thread end after its present call; what is begun later is never done."""
        self._calls.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the end; return whether it came within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # and with it the images, while the next one is awaited
