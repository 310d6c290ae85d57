"""The instruction in force: taken from topic and service, kept as an immutable value, shown to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from builtin_interfaces.msg import Time

from irvf.instruction.interpreter import Interpretation, Interpreter
from irvf.instruction.tasks import TaskTable
from irvf.pipeline import FusionPipeline
from irvf_msgs.msg import ActiveInstruction
from irvf_msgs.srv import SetInstruction


@dataclass(frozen=True)
class Answer:
    """What became of the last text that was given, and when that was."""

    text: str
    accepted: bool
    message: str
    stamp: Time


class InstructionDesk:
    """Takes texts, keeps the instruction in force and the answer to the last text.

    Texts come from the executor's thread. The attributes may be read from any: they are replaced, never changed.

    Args:
        tasks: what can be asked for.
        pipeline: what can be done.
        initial: text of the first instruction.
        now: when it is given.

    Attributes:
        current: the instruction in force.
        answer: to the last text.

    Raises:
        ValueError: the first instruction is not understood, or cannot be followed.
    """

    def __init__(self, tasks: TaskTable, pipeline: FusionPipeline, initial: str, now: Time) -> None:
        self._interpreter = Interpreter(tasks)
        self._pipeline = pipeline
        first = self._read(initial, sequence=1)
        if not first.accepted:
            raise ValueError(f"instruction.initial is not understood: {first.message}")
        self.current = first.instruction(sequence=1)
        self.answer = self._answer(first, now)

    def give(self, text: str, now: Time) -> Answer:
        """Take a text: from now on it is the instruction, or it is refused and the one before stays.

        Its prompt is made here, in the thread of the caller: until that is done, pairs are fused under the one before.
        """
        sequence = self.current.sequence + 1
        read = self._read(text, sequence)
        if read.accepted:
            self.current = read.instruction(sequence)
        self.answer = self._answer(read, now)
        return self.answer

    def _read(self, text: str, sequence: int) -> Interpretation:
        """Interpret a text and make its prompt; refuse classes that a head does not know."""
        read = self._interpreter.interpret(text)
        if read.task is None:
            return read
        reason = self._pipeline.unknown_classes(read.task, read.classes)
        if not reason:
            try:
                self._pipeline.prompt(read.instruction(sequence))
            except Exception as error:  # noqa: BLE001 - an encoder of the user's own: whatever it raises is an answer
                reason = f"the text encoder cannot read it: {error}"
        return Interpretation(read.text, None, (), 0.0, reason) if reason else read

    def _answer(self, read: Interpretation, now: Time) -> Answer:
        missing = self._pipeline.missing_heads(read.task) if read.task else ()
        hint = f"; no model for {', '.join(missing)} is loaded, so only the fused image is published" if missing else ""
        return Answer(read.text, read.accepted, read.message + hint, now)

    @property
    def prompt_source(self) -> str:
        """What made the prompt of the instruction in force: ``text``, ``task``, or empty where there is none."""
        prompt = self._pipeline.prompt(self.current)
        return prompt.source if prompt else ""

    def message(self) -> ActiveInstruction:
        """Return the state of things."""
        current = self.current
        return ActiveInstruction(
            stamp=self.answer.stamp,
            sequence=current.sequence,
            text=self.answer.text,
            accepted=self.answer.accepted,
            message=self.answer.message,
            task=current.task.name,
            classes=list(current.classes),
            outputs=list(self._pipeline.outputs(current)),
            confidence=current.confidence,
            prompt=self.prompt_source,
        )

    def fill(self, response: SetInstruction.Response) -> SetInstruction.Response:
        """Answer the service."""
        current = self.current
        response.accepted, response.message = self.answer.accepted, self.answer.message
        response.sequence, response.task = current.sequence, current.task.name
        response.classes, response.confidence = list(current.classes), current.confidence
        return response
