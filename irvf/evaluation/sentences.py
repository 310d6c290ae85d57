"""Measures an interpreter on sentences with what they mean: how many are understood, refused, or taken for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from irvf.instruction.fallback_interpreter import FallbackInterpreter
from irvf.instruction.instruction import Effect
from irvf.instruction.interpreter import Interpretation, Interpreter

KEEP = "keep"
REFUSED = "refused"
OFF_TOPIC = ("off_topic", "adversarial")
"""Categories of sentences that are not about the image, or not to be followed."""
_KEYS = {"text", "language", "category", "task", "classes", "effects", "reset", "or_refused"}
_KINDS = {"noise": "denoising"}
_SIGNS = {"thermal": 1, "visible": -1, "up": 1, "down": -1}


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it means; see ``tests/sentences/README.md``.

    Attributes:
        text: as typed.
        language: ``en``, ``de`` ...
        category: what it is a test of.
        task: name of the task, :data:`KEEP` where it speaks of effects only, or :data:`REFUSED`.
        classes: what the task is limited to; empty for all.
        effects: kind, sign of the amount, and region (empty for the whole image, ``not X`` for all but X).
        reset: whether the effects before it end.
        or_refused: whether a refusal is as good.
    """

    text: str
    language: str
    category: str
    task: str
    classes: frozenset[str] = frozenset()
    effects: frozenset[tuple[str, int, str]] = frozenset()
    reset: bool = False
    or_refused: bool = False


def load_sentences(path: Path) -> list[Sentence]:
    """Read sentences.

    Raises:
        OSError: the file cannot be opened.
        ValueError: another form; names the entry.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, list):
        raise ValueError(f"{path} must be a list of sentences")
    return [_sentence(path, entry) for entry in content]


def _sentence(path: Path, entry: Any) -> Sentence:
    if not isinstance(entry, dict) or set(entry) - _KEYS or not {"text", "category", "task"} <= set(entry):
        raise ValueError(f"{path}: {entry!r:.200} must have text, category and task, and of {', '.join(sorted(_KEYS))}")
    return Sentence(
        str(entry["text"]),
        entry.get("language", "en"),
        entry["category"],
        entry["task"],
        frozenset(entry.get("classes", ())),
        frozenset(map(_effect, entry.get("effects", ()))),
        bool(entry.get("reset", False)),
        bool(entry.get("or_refused", False)),
    )


def _effect(entry: Mapping[str, str]) -> tuple[str, int, str]:
    kind, direction = entry["kind"], entry["direction"]
    sign = -_SIGNS[direction] if kind == "noise" else _SIGNS[direction]
    return _KINDS.get(kind, kind), sign, entry.get("region", "")


def _read_effect(effect: Effect) -> tuple[str, int, str]:
    region = effect.region.name.replace("all but ", "not ") if effect.region else ""
    return effect.kind, 1 if effect.amount > 0 else -1, region


def judge(sentence: Sentence, read: Interpretation, known: Iterable[str]) -> tuple[str, bool]:
    """Say what became of a sentence.

    Args:
        sentence: what it means.
        read: what it was understood as.
        known: names of all classes: naming each of them limits nothing.

    Returns:
        ``right``, ``refused`` or ``wrong`` of its task; and whether classes, effects and reset are right, too.
    """
    found = REFUSED if not read.accepted else read.task.name if read.task else KEEP
    if found == REFUSED and sentence.task != REFUSED:
        return ("right", True) if sentence.or_refused else ("refused", False)
    if found != sentence.task:
        return "wrong", False
    if found == REFUSED:
        return "right", True
    every = frozenset(known)
    classes = (sentence.classes or every) == (frozenset(read.classes) or every)
    limited = found in ("detection", "segmentation")
    effects = sentence.effects == frozenset(map(_read_effect, read.effects))
    return "right", (classes or not limited) and effects and sentence.reset == read.reset


@dataclass
class Tally:
    """Counts of one group of sentences.

    Attributes:
        counts: ``right``, ``refused``, ``wrong`` by task, and ``exact``: classes, effects and reset right, too.
        failures: what was not exactly right, with what was understood.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Sentence, Interpretation]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of sentences."""
        return self.counts["right"] + self.counts["refused"] + self.counts["wrong"]


def measure(
    sentences: Sequence[Sentence], interpreter: Interpreter | FallbackInterpreter, known: Iterable[str]
) -> dict[tuple[str, str], Tally]:
    """Interpret all sentences; return the tallies by language and category."""
    tallies: dict[tuple[str, str], Tally] = {}
    for sentence in sentences:
        read = interpreter.interpret(sentence.text)
        outcome, exact = judge(sentence, read, known)
        tally = tallies.setdefault((sentence.language, sentence.category), Tally())
        tally.counts[outcome] += 1
        tally.counts["exact"] += exact
        if not exact:
            tally.failures.append((sentence, read))
    return tallies


def merged(tallies: Mapping[tuple[str, str], Tally], languages: Iterable[str], *, off_topic: bool) -> Tally:
    """Add up what is on or off the topic in some languages."""
    wanted = set(languages)
    total = Tally()
    for (language, category), tally in tallies.items():
        if language in wanted and (category in OFF_TOPIC) == off_topic:
            total.counts += tally.counts
            total.failures += tally.failures
    return total
