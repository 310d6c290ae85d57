"""The instruction in force: texts from topic and service, read in a thread of their own, kept as an immutable value."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from builtin_interfaces.msg import Time

from irvf.instruction.instruction import Instruction
from irvf.instruction.interpreter import Interpretation, clean_text
from irvf.instruction.tasks import VIEWING
from irvf.pipeline import FusionPipeline
from irvf_fusion_node.worker import LatestMailbox, MailboxClosedError
from irvf_msgs.msg import ActiveInstruction
from irvf_msgs.srv import SetInstruction

MAX_PAUSE = 0.1
"""Seconds that a text waits at most for the moment between two pairs."""
REST = 4.0
"""After reading a text the thread rests this many times as long: a flood of texts takes a fifth of a core at most."""
MAX_REST = 0.5
"""Seconds that it rests at most: after a text that a language model took long for, the next one is not kept waiting."""

_logger = logging.getLogger(__name__)


class InstructionReader(Protocol):
    """What understands texts: :class:`irvf.instruction.interpreter.Interpreter` or one with a language model."""

    def interpret(self, text: str, current: Instruction | None = None) -> Interpretation:
        """Understand a text, beside the instruction in force, or refuse it; never raises."""


@dataclass(frozen=True)
class Answer:
    """What became of a text that was given, and when that was; one that a newer text overtook was not read.

    ``current`` is the instruction in force since then; None where the text was not read.
    """

    text: str
    accepted: bool
    message: str
    stamp: Time
    suggestions: tuple[str, ...] = ()
    current: Instruction | None = None

    @property
    def read(self) -> bool:
        """Whether it was read."""
        return self.current is not None


Answered = Callable[[Answer], None]


@dataclass(frozen=True)
class _Given:
    """A text that waits to be read, and who is to hear of it."""

    text: str
    stamp: Time
    answered: Answered


class InstructionDesk:
    """Takes texts, keeps the instruction in force and the answer to the last text.

    A text that is given is read in a thread of the desk's own, so that neither images nor services wait for it; of
    those that come meanwhile only the last is read. The attributes may be read from any thread: they are replaced,
    never changed.

    Args:
        reader: understands texts.
        pipeline: returns what can be done: the pipeline in use.
        initial: text of the first instruction, read at once.
        now: when it is given.
        wait_for_pause: returns when other work disturbs the pairs least, within the seconds that it is given.

    Attributes:
        current: the instruction in force.
        answer: to the last text.

    Raises:
        ValueError: the first instruction is not understood, or cannot be followed.
    """

    def __init__(
        self,
        reader: InstructionReader,
        pipeline: Callable[[], FusionPipeline],
        initial: str,
        now: Time,
        wait_for_pause: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._reader = reader
        self._pipeline = pipeline
        self._wait_for_pause = wait_for_pause
        first = reader.interpret(initial)
        if not first.accepted:
            raise ValueError(f"instruction.initial is {first.message}")
        self.current = self._follow(first, None)
        self.answer = self._accepted(first, self.current, now)
        self._mailbox: LatestMailbox[_Given] = LatestMailbox()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="instructions", daemon=True)
        self._thread.start()

    def give(self, text: str, now: Time, answered: Answered) -> None:
        """Hand over a text; returns at once.

        Args:
            text: from the user, of any length and content.
            now: when it came.
            answered: called with what became of it, in the desk's thread; in the caller's for one that is superseded,
                or comes after the desk has closed.
        """
        try:
            superseded = self._mailbox.put(_Given(text, now, answered))
        except MailboxClosedError:
            answered(Answer("", accepted=False, message="the node is being shut down", stamp=now))
            return
        if superseded is not None:
            _leave_unread(superseded)

    def close(self, timeout: float) -> bool:
        """Read no more texts; return whether the thread has ended within ``timeout`` seconds."""
        left = self._mailbox.close()
        self._closed.set()
        if left is not None:
            _leave_unread(left)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (given := self._mailbox.take()) is not None:
            self._wait_for_pause(MAX_PAUSE)
            started = time.monotonic()
            try:
                self.answer = answer = self._read(given)
                given.answered(answer)
            except Exception:
                _logger.exception("an instruction was not answered")
            self._closed.wait(min(REST * (time.monotonic() - started), MAX_REST))

    def _read(self, given: _Given) -> Answer:
        try:
            read = self._reader.interpret(given.text, self.current)
        except Exception as error:  # noqa: BLE001 - a text encoder or model that fails: whoever gave the text hears of it
            text = clean_text(given.text)
            read = Interpretation(text, accepted=False, message=f"not understood: {type(error).__name__}: {error}")
        if read.accepted:
            try:
                current = self._follow(read, self.current)
            except ValueError as error:
                return self._refused(read, str(error), given.stamp)
            self.current = current
            return self._accepted(read, current, given.stamp)
        return self._refused(read, read.message, given.stamp)

    def _follow(self, read: Interpretation, previous: Instruction | None) -> Instruction:
        """Return what becomes of the instruction before, its prompt made.

        Raises:
            ValueError: it cannot be followed: no class, region or prompt of it can be had, or too many effects.
        """
        instruction = read.instruction(previous.sequence + 1 if previous else 1, previous, default=VIEWING)
        reason = self._pipeline().unknown_classes(instruction.task, read.classes) or self._pipeline().unseen_region(
            read.effects
        )
        if reason:
            raise ValueError(reason)
        try:
            self._pipeline().prompt(instruction)
        except Exception as error:  # an encoder of the user's own: whatever it raises is an answer
            raise ValueError(f"the text encoder cannot read it: {error}") from error
        return instruction

    def _accepted(self, read: Interpretation, current: Instruction, now: Time) -> Answer:
        message = read.message
        if read.task is None:
            message += f"; still {current.task.name}" + (f" of {', '.join(current.classes)}" if current.classes else "")
        if current.effects != read.effects:
            message += f"; effects in force: {', '.join(map(str, current.effects)) or 'none'}"
        missing = self._pipeline().missing_heads(current.task)
        if missing:
            message += f"; no model for {', '.join(missing)} is loaded, so only the fused image is published"
        return Answer(read.text, accepted=True, message=message, stamp=now, current=current)

    def _refused(self, read: Interpretation, reason: str, now: Time) -> Answer:
        message = f"{reason}; kept {self.current.text!r} ({self.current.task.name})"
        return Answer(
            read.text, accepted=False, message=message, stamp=now, suggestions=read.suggestions, current=self.current
        )

    @property
    def prompt_source(self) -> str:
        """What made the prompt of the instruction in force: ``text``, ``task``, or empty where there is none."""
        prompt = self._pipeline().prompt(self.current)
        return prompt.source if prompt else ""

    def message(self) -> ActiveInstruction:
        """Return the state of things."""
        answer = self.answer
        current = answer.current or self.current
        return ActiveInstruction(
            stamp=answer.stamp,
            sequence=current.sequence,
            text=answer.text,
            accepted=answer.accepted,
            message=answer.message,
            task=current.task.name,
            classes=list(current.classes),
            effects=list(map(str, current.effects)),
            outputs=list(self._pipeline().outputs(current)),
            confidence=current.confidence,
            prompt=self.prompt_source,
            suggestions=list(answer.suggestions),
        )

    def fill(self, answer: Answer, response: SetInstruction.Response) -> SetInstruction.Response:
        """Answer the service: with what was in force when the text was read, whatever came after it."""
        current = answer.current or self.current
        response.accepted, response.message = answer.accepted, answer.message
        response.sequence, response.task = current.sequence, current.task.name
        response.classes, response.effects = list(current.classes), list(map(str, current.effects))
        response.confidence, response.suggestions = current.confidence, list(answer.suggestions)
        return response


def _leave_unread(given: _Given) -> None:
    message = "not read: a newer instruction came"
    given.answered(Answer("", accepted=False, message=message, stamp=given.stamp))
