"""The instruction: what a user wants of the fused image, as an immutable value."""

from __future__ import annotations

from dataclasses import dataclass

from irvf.instruction.tasks import Task


@dataclass(frozen=True)
class Instruction:
    """An instruction that was understood.

    Attributes:
        text: as given, cleaned.
        task: what is done.
        classes: names that detections are limited to; empty for all.
        confidence: share of the text that was understood, 0..1.
        sequence: number of the instruction, growing by one with each that is accepted.
    """

    text: str
    task: Task
    classes: tuple[str, ...]
    confidence: float
    sequence: int
