"""Watches over the inference: what hangs is left behind, what keeps failing is made anew, then on another engine.

A thread of Python cannot be ended from outside. So each inference runs in a thread that may be lost: who waits for it
waits no longer than agreed, and what comes later is thrown away. Meanwhile another pipeline is made in the background,
the first time with the same engine, and where that soon fails too, with the next one of a fallback order.

Nothing here sees an engine that hangs while it holds Python's interpreter lock: then the whole process stands still,
and only something outside of it (systemd's ``WatchdogSec``, a container's health check) can end it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from irvf.engines.engine import EngineError
from irvf_fusion_node.engine_health import Event, Health, Patience, SupervisionError
from irvf_fusion_node.engine_thread import Call, EngineThread

P = TypeVar("P")
R = TypeVar("R")

_logger = logging.getLogger(__name__)


class Watchdog(Generic[P]):
    """Runs work on a pipeline, and another one in its place when it hangs or keeps failing.

    A pipeline that only fails stays in use while its successor is made; one that hangs does not. Either is kept if it
    does well again before its successor is ready.

    Args:
        pipeline: that runs on ``engines[0]``, warm.
        engines: the configured engine, then those to fall back to; see
            :func:`irvf_fusion_node.engine_health.fallback_engines`.
        make: makes a warm pipeline on an engine, and raises where that cannot be; called in threads that may hang.
        adopt: called with a new pipeline just before it takes over, in a background thread and under the lock of
            :meth:`apply`: brings it up to date with what has changed since it began to be made.
        on_event: is told what happens, in whatever thread.
        patience: None takes the defaults.
    """

    def __init__(
        self,
        pipeline: P,
        engines: Sequence[str],
        make: Callable[[str], P],
        *,
        adopt: Callable[[P], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._engines = tuple(engines)
        self._make = make
        self._adopt = adopt or _ignore
        self._on_event = on_event or _ignore
        self._patience = patience or Patience()
        self._changed = threading.Condition(threading.RLock())
        self._unit = _Unit(pipeline, 0)
        self._hung: set[Call[Any]] = set()  # calls that were given up, and have not come back
        self._mender: threading.Thread | None = None
        self._trouble = ""  # why the present pipeline is being replaced; empty while it does well
        self._is_out = False  # whether it cannot be used meanwhile
        self._is_failed = False  # whether no other one could be made
        self._is_closed = False
        self._errors = 0
        self._first_error = 0.0
        self._mended = -float("inf")  # when the last trouble ended
        self._was_restarted = False  # on the present engine, since that began to run
        self._pause = self._patience.first_pause

    @property
    def current(self) -> P:
        """The pipeline in use; while another one is made in its place, still the old one. Safe in any thread."""
        return self._unit.pipeline

    @property
    def health(self) -> Health:
        """How the engine does at this moment."""
        with self._changed:
            engine, hung = self._engines[self._unit.engine], len(self._hung)
            state = "failed" if self._is_failed else "restarting" if self._trouble else "running"
            parts = [self._trouble]
            if not self._trouble and self._unit.engine:
                parts = [f"engine {self._engines[0]} failed; {engine} runs in its place until the next configure"]
            if hung:
                end = "; restart the process" if hung >= self._patience.hung_threads else ""
                parts.append(f"abandoned threads: {hung}{end}")
            is_error = self._is_failed or hung >= self._patience.hung_threads
            return Health(state, "; ".join(filter(None, parts)), is_error, engine, hung)

    def apply(self, change: Callable[[P], None]) -> None:
        """Change the pipeline in use while none can take its place; ``adopt`` sees what the change left behind."""
        with self._changed:
            change(self._unit.pipeline)

    def run(self, work: Callable[[P], R], patience: float = 1.0) -> R:
        """Run work on the pipeline; from one thread at a time.

        Args:
            work: what is to be done.
            patience: times as long as usual that it may take.

        Returns:
            What it returned, within the time that it has.

        Raises:
            SupervisionError: it took too long, or there is no pipeline at this moment.
            Exception: whatever it raised.
        """
        with self._changed:
            if self._is_closed:
                raise SupervisionError("engine.closed", "the engine was given back")
            if self._is_out:
                reason = "failed" if self._is_failed else "restarting"
                raise SupervisionError(f"engine.{reason}", self._trouble)
            unit = self._unit
        call = Call(lambda: work(unit.pipeline))
        unit.thread.begin(call)
        timeout = self._patience.timeout * patience
        if not call.ended.wait(timeout or None) and self._give_up(unit, call, timeout):
            raise SupervisionError("engine.hung", f"inference took more than {timeout:g} s")
        error = call.take_error()
        if error is None:
            self._did_well(unit)
            return call.result
        if isinstance(error, EngineError):
            self._count_error(unit, error)
        try:
            raise error
        finally:
            del error  # its traceback knows this frame: in a circle, they would keep the pipeline

    def close(self, timeout: float) -> bool:
        """Begin nothing anew; return whether all threads have ended within ``timeout`` seconds. May be called again."""
        with self._changed:
            self._is_closed = True
            unit, mender = self._unit, self._mender
            unit.thread.end()
            self._changed.notify_all()
        limit = time.monotonic() + timeout
        if mender is not None:
            mender.join(timeout)
        has_ended = unit.thread.join(max(0.0, limit - time.monotonic()))
        with self._changed:
            have_returned = self._changed.wait_for(lambda: not self._hung, max(0.0, limit - time.monotonic()))
        # Whoever made this is often held by what it gave, and would stay in memory with all networks.
        self._make, self._adopt, self._on_event = _closed, _ignore, _ignore
        return has_ended and have_returned and (mender is None or not mender.is_alive())

    # What a call shows

    def _give_up(self, unit: _Unit[P], call: Call[Any], timeout: float) -> bool:
        """Leave a call behind; false where it has ended at the last moment."""
        trouble = f"inference on engine {self._engines[unit.engine]} took more than {timeout:g} s"
        with self._changed:
            if not self._leave_behind(call, unit):
                return False
            if unit is self._unit:
                self._is_out = True
                self._begin_mending(trouble)
        self._tell("hung", trouble)
        return True

    def _returned(self, call: Call[Any], unit: _Unit[P] | None = None) -> None:
        """Take note that a call that was given up has come back, in its thread; its unit can be tried again."""
        is_well = not isinstance(call.take_error(), EngineError)
        with self._changed:
            self._hung.discard(call)
            self._changed.notify_all()
            if unit is self._unit:
                self._is_out = False
        if is_well and unit is not None:
            self._did_well(unit)

    def _count_error(self, unit: _Unit[P], error: EngineError) -> None:
        with self._changed:
            if unit is not self._unit:
                return
            now = time.monotonic()
            self._errors += 1
            if self._errors == 1:
                self._first_error = now
            lasted = now - self._first_error
            if self._trouble or (self._errors < self._patience.errors and lasted <= self._patience.error_time):
                return
            name = self._engines[unit.engine]
            trouble = f"engine {name} failed {self._errors} times in a row, the last: {str(error)[:300]}"
            self._begin_mending(trouble)
        self._tell("failing", trouble)

    def _did_well(self, unit: _Unit[P]) -> None:
        with self._changed:
            if unit is not self._unit or self._is_out:
                return
            self._errors = 0
            if not self._trouble:
                return
            self._end_trouble()
        self._tell("recovered", f"engine {self._engines[unit.engine]} works again by itself")

    def _end_trouble(self) -> None:
        self._trouble = ""
        self._is_out = self._is_failed = False
        self._errors = 0
        self._mended = time.monotonic()
        self._changed.notify_all()

    # Making another pipeline, in a thread that itself hangs no longer than a pipeline may take to be made

    def _begin_mending(self, trouble: str) -> None:
        if self._is_closed or self._trouble:
            return
        self._trouble = trouble
        if self._mender is None:  # else there is one whose work has just become needed again
            self._mender = threading.Thread(target=self._mend, name="watchdog", daemon=True)
            self._mender.start()

    def _mend(self) -> None:
        with self._changed:
            since = time.monotonic() - self._mended
            if since > self._patience.relapse:
                self._pause = self._patience.first_pause
            first = self._unit.engine + (self._was_restarted and since <= self._patience.relapse)
        while True:
            for engine in range(first, len(self._engines)):
                self._wait_for_threads()
                if self._is_done():
                    return
                made = self._try(engine)
                if made is not None:
                    self._take_over(made, engine)
                if self._is_done():
                    return
            with self._changed:
                self._is_failed, pause = True, self._pause
                self._pause = min(2 * pause, self._patience.longest_pause)
                trouble = self._trouble
            self._tell("none_left", f"{trouble}; no other engine works: all are tried again in {pause:g} s")
            with self._changed:
                self._changed.wait_for(lambda: not self._is_wanted, pause)
            first = 0

    @property
    def _is_wanted(self) -> bool:
        """Whether another pipeline is to take the place of the one in use."""
        return bool(self._trouble) and not self._is_closed

    def _is_done(self) -> bool:
        """Say whether no other pipeline is needed any more; then the next trouble begins with a mender of its own."""
        with self._changed:
            if not self._is_wanted:
                self._mender = None
            return not self._is_wanted

    def _wait_for_threads(self) -> None:
        """Wait while too many threads hang."""
        limit = self._patience.hung_threads
        with self._changed:
            count = len(self._hung)
            if count < limit:
                return
            self._is_failed = True
        self._tell("abandoned", f"abandoned threads: {count}; no engine is made before one of them returns")
        with self._changed:
            self._changed.wait_for(lambda: len(self._hung) < limit or not self._is_wanted)

    def _try(self, engine: int) -> P | None:
        """Make a pipeline; None where that fails, or takes too long."""
        name, timeout = self._engines[engine], self._patience.make_timeout
        call = Call(lambda: self._make(name))
        threading.Thread(target=call, name="engine maker", daemon=True).start()
        if not call.ended.wait(timeout) and self._leave_behind(call):
            self._tell("not_made", f"engine {name} was not ready within {timeout:g} s")
            return None
        error = call.take_error()
        if error is not None:
            self._tell("not_made", f"engine {name} cannot be made: {str(error)[:300]}")
            return None
        return call.result

    def _leave_behind(self, call: Call[Any], unit: _Unit[P] | None = None) -> bool:
        """Give up a call, and count its thread until it returns; false where it has ended at the last moment."""
        with self._changed:
            has_left = call.give_up(lambda: self._returned(call, unit))
            if has_left:
                self._hung.add(call)
            return has_left

    def _take_over(self, made: P, engine: int) -> None:
        with self._changed:
            if not self._is_wanted:
                return
            try:
                self._adopt(made)
            except Exception as error:  # noqa: BLE001 - a pipeline that cannot be used is none
                self._tell("not_made", f"engine {self._engines[engine]} cannot be used: {error}")
                return
            before, self._unit = self._unit, _Unit(made, engine)
            before.thread.end()
            self._was_restarted = engine == before.engine
            self._end_trouble()
        if engine == before.engine:
            self._tell("restarted", f"engine {self._engines[engine]} was restarted")
        else:
            self._tell("fallback", f"engine {self._engines[before.engine]} gave way to {self._engines[engine]}")

    def _tell(self, kind: str, message: str) -> None:
        try:
            self._on_event(Event(kind, message))
        except Exception:
            _logger.exception("telling %r failed", message)


def _closed(engine: str) -> Any:
    raise EngineError(f"engine {engine} is not made any more: the watchdog is closed")


def _ignore(_what: object) -> None:
    pass


@dataclass(frozen=True, eq=False)
class _Unit(Generic[P]):
    """A pipeline, the number of its engine, and the thread in which it works."""

    pipeline: P
    engine: int
    thread: EngineThread = field(default_factory=EngineThread)
