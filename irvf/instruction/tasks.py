"""The task: what is found in the fused image under an instruction."""

from __future__ import annotations

from dataclasses import dataclass

HEADS = ("detection", "segmentation", "saliency")
"""What can run on the fused image."""


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks.

    Attributes:
        name: asks for the task.
        description: one line for the user.
        heads: of :data:`HEADS`, what runs on the fused image; empty when it is only looked at.
        classes: what it is limited to where an instruction names no classes; empty for all.
    """

    name: str
    description: str
    heads: tuple[str, ...]
    classes: tuple[str, ...] = ()


VIEWING = Task("viewing", "The fused image, made to be looked at.", ())
"""In force where the first instruction speaks of effects alone."""
