"""Levels of diagnostics that do not flap: what holds for a moment is not shown, what was bad is not at once good."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
RISE_AFTER = 1.5
"""Seconds for which a condition must have held before it is shown: the third of three reports, one a second."""
FALL_AFTER = 4.5
"""Seconds for which it must have been better before that is shown."""


@dataclass(frozen=True)
class Verdict:
    """How one part of the node does at one moment.

    Attributes:
        level: of ``diagnostic_msgs/DiagnosticStatus``.
        message: for people.
        has_held: whether the condition is one of time by itself, as a stall is: its level rises at once.
        is_event: whether it is what somebody did and heard of, as a refused instruction: its level rises and falls at
            once, and it is not said in the log again.
    """

    level: bytes
    message: str
    has_held: bool = False
    is_event: bool = False


class _Trigger:
    """Whether something is at least so bad, in steady terms."""

    def __init__(self, level: bytes) -> None:
        self.level = level
        self.is_on = False
        self._since: float | None = None  # that the condition is another than what is shown
        self.is_event = False  # what is shown

    def take(self, verdict: Verdict, now: float, rise_after: float, fall_after: float) -> None:
        holds = verdict.level >= self.level
        if holds == self.is_on:
            self._since = None
            return
        if self._since is None:
            self._since = now
        at_once = verdict.is_event or (verdict.has_held if holds else self.is_event)
        if at_once or now - self._since >= (rise_after if holds else fall_after):
            self.is_on, self._since, self.is_event = holds, None, verdict.is_event

    def better_for(self, now: float) -> float:
        """Seconds for which the condition has been better than it is shown."""
        return now - self._since if self.is_on and self._since is not None else 0.0


class SteadyLevel:
    """The level of one part: it rises when a condition has held for a while, and falls when it was better for longer.

    Args:
        rise_after: seconds for which a worse condition must hold.
        fall_after: seconds for which a better one must.
    """

    def __init__(self, rise_after: float = RISE_AFTER, fall_after: float = FALL_AFTER) -> None:
        self._times = (rise_after, fall_after)
        self._triggers = (_Trigger(WARN), _Trigger(ERROR), _Trigger(STALE))
        self._said: dict[bytes, str] = {}  # the last message of each level
        self._was_event = False

    def settle(self, verdict: Verdict, now: float) -> Verdict:
        """Return what is to be shown; it is an event where one begins or ends it.

        Args:
            verdict: of this moment.
            now: monotonic time in seconds, never before that of the last call.
        """
        self._said[verdict.level] = verdict.message
        for trigger in self._triggers:
            trigger.take(verdict, now, *self._times)
        on = [trigger for trigger in self._triggers if trigger.is_on]
        level = on[-1].level if on else OK
        message = self._said.get(level, verdict.message)
        if on and level > verdict.level:
            message += f" (better for {on[-1].better_for(now):.0f} s)"
        is_event = on[-1].is_event if on else verdict.is_event
        begins_or_ends, self._was_event = is_event or self._was_event, is_event
        return Verdict(level, message, verdict.has_held, begins_or_ends)
