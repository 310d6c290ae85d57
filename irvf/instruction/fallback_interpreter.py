"""A language model in front of the built-in interpreter, in a thread of its own and with a time limit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from irvf.instruction.instruction import Instruction
from irvf.instruction.interpreter import Interpretation, Interpreter, clean_text
from irvf.instruction.language_model import LanguageModelParser
from irvf.instruction.language_model_generator import TIME_LIMIT, TransformersGenerator, too_late
from irvf.instruction.words import MARKS, words_of

_logger = logging.getLogger(__name__)


class TimedParser:
    """Runs a parser in a daemon thread of its own and waits for it so long and no longer. Safe to use from any thread.

    Args:
        parse: understands a text; called with one text at a time.
        time_limit: seconds, more than 0.

    Attributes:
        reason: why there was no answer to the last text; empty when there was one.
        failures: number of texts without an answer.

    Raises:
        ValueError: the time limit is none.
    """

    def __init__(self, parse: Callable[[str], Interpretation], time_limit: float = TIME_LIMIT) -> None:
        if not 0 < time_limit < threading.TIMEOUT_MAX:
            raise ValueError(f"the time limit of the language model must be more than 0 seconds, not {time_limit}")
        self.reason = ""
        self.failures = 0
        self._parse = parse
        self._time_limit = time_limit
        self._closed = False
        self._free = threading.Lock()
        self._texts: SimpleQueue[tuple[str, Future[Interpretation | str]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="language-model", daemon=True)
        self._thread.start()

    def __call__(self, text: str) -> Interpretation | None:
        """Return what the parser makes of a text; None when it failed, is late, or is busy with an earlier text."""
        given = self._ask(text)
        if not isinstance(given, str):
            self.reason = ""
            return given
        self.failures += 1
        if given != self.reason:  # not the same line for every text
            _logger.warning("no answer of the language model: %s", given)
        self.reason = given
        return None

    def close(self) -> None:
        """Take no more texts and end the thread; waits for a text that is worked on, no longer than the time limit."""
        self._closed = True
        self._texts.put(None)
        self._thread.join(self._time_limit)

    def _ask(self, text: str) -> Interpretation | str:
        """Return what the parser makes of a text, or why it is nothing."""
        if self._closed:
            return "it is closed"
        if not self._free.acquire(blocking=False):
            return "it is busy with an earlier text"
        answer: Future[Interpretation | str] = Future()
        self._texts.put((text, answer))
        try:
            return answer.result(self._time_limit)
        except FutureTimeoutError:
            return too_late(self._time_limit)

    def _run(self) -> None:
        while (item := self._texts.get()) is not None:
            text, answer = item
            given: Interpretation | str
            try:
                given = self._parse(text)
            except Exception as error:  # noqa: BLE001 - a model of the user's own: whatever it raises is an answer
                given = clean_text(str(error)) or type(error).__name__
            self._free.release()  # first: who has the answer may come at once with the next text
            answer.set_result(given)  # late, it is looked at by nobody


class FallbackInterpreter:
    """Interprets as a language model does, and as the built-in interpreter where that gives no answer.

    Names of tasks, empty texts and texts that are too long are not shown to the language model. What it refuses is
    refused.

    Args:
        interpreter: the built-in one.
        parser: the language model.

    Attributes:
        parser: the same, for diagnostics.
    """

    def __init__(self, interpreter: Interpreter, parser: TimedParser) -> None:
        self._interpreter = interpreter
        self.parser = parser

    def interpret(self, text: str, current: Instruction | None = None) -> Interpretation:
        """Understand a text or refuse it; never raises. Takes no longer than both together.

        Args:
            text: from the user, of any length and content.
            current: the instruction in force; the language model is not told of it.
        """
        known = self._interpreter.interpret(text, current)
        if known.source == "name" or set(words_of(known.text)) <= MARKS:  # of a text that is too long, none is left
            return known
        answer = self.parser(text)
        if answer is None:
            return known
        if answer.accepted or not known.suggestions:
            return answer
        message = f"{answer.message}; try {', '.join(map(repr, known.suggestions))}"
        return replace(answer, message=message, suggestions=known.suggestions)

    def close(self) -> None:
        """End the thread of the language model."""
        self.parser.close()


def with_language_model(
    interpreter: Interpreter, folder: str | Path, time_limit: float = TIME_LIMIT, device: str = "cpu"
) -> FallbackInterpreter:
    """Put a language model in front of an interpreter; loads it and lets it read the examples, which takes its time.

    Args:
        interpreter: answers where the model does not.
        folder: of a causal language model; see :class:`TransformersGenerator`.
        time_limit: seconds for a text.
        device: of torch.

    Raises:
        LanguageModelError: the folder cannot be used.
        ValueError: the time limit is none.
    """
    generator = TransformersGenerator(folder, device, time_limit=time_limit)
    parser = LanguageModelParser(generator, interpreter.grammar)
    generator.read_ahead(parser.prompt(""))
    return FallbackInterpreter(interpreter, TimedParser(parser, time_limit))
