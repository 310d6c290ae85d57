"""One thread that always works on the newest item, and the one-slot mailbox that feeds it.

A queue in front of a slow consumer delivers ever older images; here a newer item takes the place of the one that
waits, and every item that is put is accounted for by exactly one call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class MailboxClosedError(RuntimeError):
    """The mailbox takes no more items."""


class LatestMailbox(Generic[T]):
    """A slot for one item (anything but ``None``). Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Leave an item to be taken; return the one that waited until now and is superseded by it.

        Raises:
            MailboxClosedError: after ``close``.
        """
        with self._changed:
            if self._closed:
                raise MailboxClosedError("the mailbox is closed: nobody will take the item")
            superseded, self._item = self._item, item
            self._changed.notify()
            return superseded

    def take(self, timeout: float | None = None) -> T | None:
        """Wait for an item and take it; ``None`` after ``timeout`` seconds without one, and once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            return item

    def close(self) -> T | None:
        """Wake all who wait and refuse further items; return the one that nobody took. May be called again."""
        with self._changed:
            self._closed = True
            left, self._item = self._item, None
            self._changed.notify_all()
            return left


class InferenceThread(Generic[T]):
    """Runs ``process`` on the newest item, in a thread of its own.

    Each item given to ``put`` ends in exactly one way: ``process`` returned, ``on_error``, ``on_superseded``
    or ``on_discarded``.

    Args:
        process: the work; called in the thread, one item at a time.
        on_error: called in the thread with the item and what ``process`` raised. The next item is processed as usual.
        on_superseded: called in the thread that put a newer item.
        on_discarded: called for an item that was waiting at ``stop`` or put after it, in the thread that did so.
        name: of the thread, as debuggers and ``top -H`` show it.
    """

    def __init__(
        self,
        process: Callable[[T], None],
        *,
        on_error: Callable[[T, Exception], None],
        on_superseded: Callable[[T], None],
        on_discarded: Callable[[T], None],
        name: str = "inference",
    ) -> None:
        self._process = process
        self._on_error = on_error
        self._on_superseded = on_superseded
        self._on_discarded = on_discarded
        self._mailbox: LatestMailbox[T] = LatestMailbox()
        self._beat = threading.Condition()
        self._finished = 0
        self._last_finish = 0.0
        # A daemon, so that an inference that hangs cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work. A stopped thread does not start again: make a new one."""
        self._thread.start()

    def put(self, item: T) -> None:
        """Give the thread its next item; returns at once."""
        try:
            superseded = self._mailbox.put(item)
        except MailboxClosedError:
            self._on_discarded(item)
            return
        if superseded is not None:
            self._on_superseded(superseded)

    def stop(self, timeout: float) -> bool:
        """Discard the waiting item and let the current one finish. May be called again, and without ``start``.

        Args:
            timeout: seconds to wait for the current item.

        Returns:
            Whether the thread has ended. If not, it ends after the current item.
        """
        left = self._mailbox.close()
        if left is not None:
            self._on_discarded(left)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def wait_for_pause(self, timeout: float) -> None:
        """Wait until an item has just been finished: the time for other work that the next item should not feel.

        Returns at once where none was finished for ``timeout`` seconds, and after ``timeout`` seconds at the latest.
        """
        with self._beat:
            if time.monotonic() - self._last_finish < timeout:
                seen = self._finished
                self._beat.wait_for(lambda: self._finished != seen, timeout)

    def _run(self) -> None:
        while (item := self._mailbox.take()) is not None:
            self._work_on(item)
            with self._beat:
                self._finished += 1
                self._last_finish = time.monotonic()
                self._beat.notify_all()

    def _work_on(self, item: T) -> None:
        try:
            self._process(item)
        except Exception as error:  # noqa: BLE001 - whatever one item does, the next one gets its turn
            self._report(item, error)

    def _report(self, item: T, error: Exception) -> None:
        try:
            self._on_error(item, error)
        except Exception:
            _logger.exception("reporting %r failed", error)
