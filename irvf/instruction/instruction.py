"""The instruction: what a user wants of the fused image, as an immutable value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irvf.imaging.effects import MAX_AMOUNT
from irvf.instruction.tasks import Task

EFFECT_KINDS = {
    "inclination": ("thermal", "visible"),
    "illumination": ("brighter", "darker"),
    "contrast": ("more contrast", "less contrast"),
    "denoising": ("less noise", ""),
    "sharpness": ("sharper", "softer"),
}
"""What can be done to the look of the fused image, and what a positive and a negative amount of it mean."""
AMOUNT = 0.5
"""What a word such as "brighter" asks for."""
SLIGHT = 0.25
"""What "a bit brighter" does."""
STRONG = 1.0
"""What "much brighter" does."""
MAX_EFFECTS = 8
"""Most effects in force at a time: bounds what a frame costs."""

Polygon = tuple[tuple[float, float], ...]
"""Corners ``(x, y)`` in fractions of the image's width and height, 0..1 from its top left corner."""


@dataclass(frozen=True)
class Region:
    """A part of the scene.

    Attributes:
        name: as the user is told of it.
        objects: classes of the objects that it consists of, empty for objects of every class; None when it is none.
        zone: corners of a part of the image; empty when it is none.
        inverted: whether everything but that is meant.
    """

    name: str
    objects: tuple[str, ...] | None = None
    zone: Polygon = ()
    inverted: bool = False

    def complement(self) -> Region:
        """Return everything but this."""
        but = "all but "
        name = self.name.removeprefix(but) if self.name.startswith(but) else but + self.name
        return replace(self, name=name, inverted=not self.inverted)


@dataclass(frozen=True)
class Effect:
    """A change of how the fused image looks (TeRF, section 2.4).

    Attributes:
        kind: of :data:`EFFECT_KINDS`.
        amount: how much and which way, -2..2 without 0; 0.5 is what a word such as "brighter" asks for once.
        region: where; None for the whole image.
    """

    kind: str
    amount: float
    region: Region | None = None

    def __str__(self) -> str:
        """Return it as the user is told of it, e.g. ``brighter 0.5 (person)``."""
        what = EFFECT_KINDS[self.kind][self.amount < 0] or f"less {self.kind}"
        return f"{what} {abs(self.amount):.2g}" + (f" ({self.region.name})" if self.region else "")


@dataclass(frozen=True)
class Instruction:
    """An instruction that was understood.

    Attributes:
        text: as given, cleaned.
        task: what is done.
        classes: names that detections are limited to; empty for all.
        confidence: belief that this is what was meant, 0..1.
        sequence: number of the instruction, growing by one with each that is accepted.
        effects: what is done to the look of the image, in this order.
        wording: the text that asked for the task, which shapes the fused image: of an instruction that speaks of
            effects only, the one before.
    """

    text: str
    task: Task
    classes: tuple[str, ...]
    confidence: float
    sequence: int
    effects: tuple[Effect, ...] = ()
    wording: str = ""

    @property
    def names_objects(self) -> bool:
        """Whether an effect is of a region that objects must be found for."""
        return any(effect.region is not None and effect.region.objects is not None for effect in self.effects)


def add_effects(present: tuple[Effect, ...], added: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Put effects on top of others.

    The same effect of the same region again makes it stronger (TeRF, section 2.4.4), up to
    :data:`irvf.imaging.effects.MAX_AMOUNT`; the opposite one takes it back, and nothing is left of it at 0.
    """
    amounts = {(effect.kind, effect.region): effect.amount for effect in present}
    for effect in added:
        key = effect.kind, effect.region
        amounts[key] = min(max(amounts.get(key, 0.0) + effect.amount, -MAX_AMOUNT), MAX_AMOUNT)
    if any(kind == "denoising" and amount < 0 for (kind, _), amount in amounts.items()):
        amounts = {key: max(amount, 0.0) if key[0] == "denoising" else amount for key, amount in amounts.items()}
    return tuple(Effect(kind, amount, region) for (kind, region), amount in amounts.items() if abs(amount) > 1e-6)


def end_effects(present: tuple[Effect, ...], ended: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Take away the effects of the kind and sign of one that ended, in its region or, where it has none, in all."""

    def lasts(effect: Effect) -> bool:
        return not any(
            effect.kind == other.kind
            and (effect.amount > 0) == (other.amount > 0)
            and other.region in (None, effect.region)
            for other in ended
        )

    return tuple(filter(lasts, present))
