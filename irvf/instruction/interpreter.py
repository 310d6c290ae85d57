"""Understands instructions: by exact names, then words and negation, then the meaning of the sentence."""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from irvf.engines.engine import EngineError
from irvf.instruction.grammar import Grammar
from irvf.instruction.instruction import (
    EFFECT_KINDS,
    MAX_EFFECTS,
    Effect,
    Instruction,
    Region,
    add_effects,
    end_effects,
)
from irvf.instruction.meaning import EFFECT, RESET, Meaning, Topic, features_of
from irvf.instruction.reader import Reading, read
from irvf.instruction.tasks import Task
from irvf.instruction.words import MARKS, Speller, words_of

_logger = logging.getLogger(__name__)

MAX_LENGTH = 200
"""Longest instruction in characters."""
BELIEF = 0.55
"""An English text is followed when it is more probable than this that it was understood: to be wrong costs more than to
ask again."""
CONFIDENCE = 0.5
"""A text of another language is followed when more than this share of it was understood."""
KEPT = 256
"""How many texts are remembered with what they mean."""
SUGGESTIONS = 3
"""How many instructions are suggested where one is refused."""
_WORD = re.compile(r"[A-Za-z]+")
_DETECTION = "detection"
_SALIENCY = "saliency"
_VIEWING = "viewing"


@dataclass(frozen=True)
class Interpretation:
    """What became of a text.

    Attributes:
        text: cleaned; empty when it was too long to be looked at.
        accepted: whether it was understood.
        task: what it asks for; None when it leaves the task as it is, or was refused.
        classes: names that the task is limited to; empty for all.
        effects: that it adds to those in force.
        ended: those that are to be in force no longer: of the same kind and sign, everywhere where no region is named.
        reset: whether the effects before it end.
        confidence: how sure it is that this is what was meant, 0..1; 0 when it was refused.
        message: what was understood, or why it was refused and what is known.
        left_out: objects that it names and the models do not know.
        reason: why it was refused, in a few words; empty when it was accepted.
        source: what understood it: ``name``, ``words``, ``meaning`` or ``language model``; empty when it was refused.
        suggestions: the nearest instructions that would be understood, when it was refused.
    """

    text: str
    accepted: bool = True
    task: Task | None = None
    classes: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    ended: tuple[Effect, ...] = ()
    reset: bool = False
    confidence: float = 0.0
    message: str = ""
    left_out: tuple[str, ...] = ()
    reason: str = ""
    source: str = ""
    suggestions: tuple[str, ...] = ()

    def instruction(
        self, sequence: int, previous: Instruction | None = None, default: Task | None = None
    ) -> Instruction:
        """Return the instruction number ``sequence`` that it makes of the one before.

        Raises:
            ValueError: it was refused, or asks for too many effects.
        """
        if not self.accepted:
            raise ValueError(self.message)
        before = () if self.reset or previous is None else end_effects(previous.effects, self.ended)
        effects = add_effects(before, self.effects)
        if previous and self.task is None and not self.reset and self.effects and effects == previous.effects:
            raise ValueError("it changes nothing: the effect is at its limit, or there is none to take back")
        if len(effects) > MAX_EFFECTS:
            raise ValueError(
                f"{len(effects)} effects would be in force, at most {MAX_EFFECTS} can be; reset them first"
            )
        if self.task is not None:
            return Instruction(self.text, self.task, self.classes, self.confidence, sequence, effects, self.text)
        if previous is not None:
            kept = previous.task, previous.classes, self.confidence, sequence, effects, previous.wording
            return Instruction(self.text, *kept)
        if default is None:
            raise ValueError("it names no task and none is in force")
        return Instruction(self.text, default, (), self.confidence, sequence, effects, default.name)

    @property
    def label(self) -> str:
        """What it is about as a whole: the name of its task, else ``effect`` or ``reset``."""
        return self.task.name if self.task else EFFECT if self.effects or self.ended else RESET


def clean_text(text: str, limit: int = MAX_LENGTH) -> str:
    """Make a text from outside fit for one line of a log.

    Compatibility forms are unified (NFKC), white space becomes single spaces, and everything that does not print is
    left out: control and format characters, among them those that turn the writing direction, surrogates, private and
    unassigned characters.

    Args:
        text: any text; of a long one only the beginning is looked at.
        limit: most characters returned; a longer text ends in "…".
    """
    # Some of what is looked at will be left out.
    looked_at = 4 * limit
    begin = unicodedata.normalize("NFKC", text[:looked_at])
    spaced = "".join(" " if character.isspace() else character for character in begin)
    printable = "".join(character for character in spaced if unicodedata.category(character)[0] != "C")
    cleaned = " ".join(printable.split())
    shortened = len(cleaned) > limit or len(text) > looked_at
    return cleaned[: limit - 1] + "…" if shortened else cleaned


class Interpreter:
    """Understands instructions; may be called from several threads if ``meaning`` may.

    Args:
        grammar: what can be asked for, and how.
        meaning: what sentences are about; None leaves it at the words.
        is_word: says of an English word that it is one; such a word is never taken for a typing error of another.

    Attributes:
        grammar: as given.
    """

    def __init__(
        self, grammar: Grammar, meaning: Meaning | None = None, is_word: Callable[[str], bool] | None = None
    ) -> None:
        self.grammar = grammar
        self._meaning = meaning
        known = is_word or (lambda _word: False)
        self._remembered = lru_cache(KEPT)(self._interpret)
        self._named = {words_of(name): task for name, task in grammar.tasks.items()}
        self._spellers = {language.name: Speller(language.lexicon, known) for language in grammar.languages}

    def interpret(self, text: str, current: Instruction | None = None) -> Interpretation:
        """Understand a text or refuse it; never raises.

        Args:
            text: from the user, of any length and content.
            current: the instruction in force, which "them" and "the rest" may point to.
        """
        if len(text) > MAX_LENGTH:
            return self._refused("", f"the instruction has {len(text)} characters; at most {MAX_LENGTH} are read")
        return self._remembered(text, self._context(current))

    def _interpret(self, text: str, context: tuple[Region, ...]) -> Interpretation:
        cleaned = clean_text(text)
        words = words_of(cleaned)
        plain = tuple(word for word in words if word not in MARKS)
        if not plain:
            return self._refused(cleaned, "the instruction is empty")
        task = self._named.get(plain)
        if task is not None:
            named = Interpretation(cleaned, task=task, classes=task.classes, confidence=1.0, source="name")
            return replace(named, message=describe(named))
        read = self._understood(cleaned, self.read(words, context))
        return replace(read, message=describe(read)) if read.accepted else read

    def _understood(self, text: str, reading: Reading) -> Interpretation:
        said = self.said(text, reading)
        if reading.plain and said.accepted:
            return said
        if reading.language == self.grammar.languages[0].name and self._meaning is not None:
            try:
                return self._weighed(text, reading, said, self._meaning)
            except (EngineError, ValueError) as error:
                _logger.warning("the meaning of a sentence cannot be told, its words decide: %s", error)
        if said.accepted and reading.confidence <= CONFIDENCE:
            return self._refused(text, "too little of it is known")
        return said

    def mended(self, text: str) -> str:
        """Return an English text without the typing errors that can be told, for what looks at it as a whole."""
        language = self.grammar.languages[0]
        speller = self._spellers[language.name]

        def mend(found: re.Match[str]) -> str:
            word = found[0].casefold()
            return found[0] if word in language.lexicon else speller.form(word) or found[0]

        return _WORD.sub(mend, text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))

    def _context(self, current: Instruction | None) -> tuple[Region, ...]:
        """Return the regions that were spoken of last: those of the classes in force, else of the newest effect."""
        if current is None:
            return ()
        if current.classes:
            return tuple(self.grammar.regions[name] for name in current.classes if name in self.grammar.regions)
        return tuple(effect.region for effect in current.effects[-1:] if effect.region)

    def read(self, words: tuple[str, ...], context: Sequence[Region] = ()) -> Reading:
        """Read a text in the language that understands most of it, and mend its typing errors in that."""
        languages = {language.name: language for language in self.grammar.languages}
        readings = [read(words, self.grammar, language, lambda _word: None, context) for language in languages.values()]
        best = max(readings, key=_merit)
        if not best.unknown:
            return best
        likely = dict.fromkeys((best.language, self.grammar.languages[0].name))
        mended = (read(words, self.grammar, languages[name], self._spellers[name].mend, context) for name in likely)
        return max(mended, key=_merit)

    def _weighed(self, text: str, reading: Reading, said: Interpretation, meaning: Meaning) -> Interpretation:
        """Return the more probable of what the words say and what the sentence as a whole is about."""
        topic = meaning.topic(self.mended(text))
        beliefs = [
            (meaning.belief(features_of(reading, each.label, topic, by_meaning=each is not said)), each)
            for each in self.candidates(text, reading, said, topic)
        ]
        belief, best = max(beliefs, key=lambda item: item[0], default=(0.0, said))
        if belief > BELIEF:
            return replace(best, confidence=belief)
        return self._refused(text, "it does not seem to be about the image" if said.accepted else said.reason, topic)

    def candidates(self, text: str, reading: Reading, said: Interpretation, topic: Topic) -> list[Interpretation]:
        """Return what a text may mean: what its words say, and the task that the whole sentence is about."""
        found = [said] if said.accepted else []
        words = reading.understood + len(reading.unknown)
        if words > 1 and not (reading.problem or reading.negates or reading.effects or len(reading.tasks) > 1):
            task = self.grammar.tasks.get(topic.best)
            if task is not None and not (said.accepted and said.label == task.name):
                meant = self._of_task(text, task, reading)
                found += [replace(meant, source="meaning")] if meant.accepted else []
        return found

    def said(self, text: str, reading: Reading) -> Interpretation:
        """Return what the words of a text ask for, refused where they contradict themselves or say nothing."""
        if reading.problem:
            return self._refused(text, reading.problem)
        if len(reading.tasks) > 1:
            return self._refused(text, f"it asks for {' and '.join(reading.tasks)} at once; give one of them")
        task = self._task_of(reading)
        if task is not None:
            return self._of_task(text, self.grammar.tasks[task], reading)
        if reading.effects or reading.ended or reading.reset:
            return Interpretation(
                text,
                effects=reading.effects,
                ended=reading.ended,
                reset=reading.reset,
                confidence=reading.confidence,
                source="words",
            )
        objects = f": {', '.join(reading.unknown_objects)}" if reading.unknown_objects else ""
        return self._refused(text, f"it names nothing that can be done{objects}")

    def _task_of(self, reading: Reading) -> str | None:
        """Name the task that is asked for, be it in a courteous way or by what is to be found."""
        if reading.tasks:
            return reading.tasks[0]
        named = bool(reading.classes or reading.excluded or reading.every or reading.anything)
        courteous = [task for task in reading.courtesies if task != _VIEWING]
        if reading.classes or reading.excluded:  # "important" is said of people that are to be found, too
            courteous = [_DETECTION if task == _SALIENCY else task for task in courteous]
        courteous = [task for task in courteous if task != _DETECTION] or courteous
        if courteous and (named or not (reading.effects or reading.ended or reading.unwanted)):
            return courteous[0]
        if reading.picture and not (reading.excluded or reading.only or reading.effects):
            return _VIEWING
        alone = reading.only or reading.listed or not (reading.effects or reading.ended)
        if reading.excluded or (reading.classes and alone and not (reading.reset and reading.listed)):
            return _DETECTION
        silent = not (reading.effects or reading.ended or reading.reset)
        if reading.unwanted or (silent and reading.courtesies):
            return _VIEWING
        return _DETECTION if silent and reading.every else None

    def _of_task(self, text: str, task: Task, reading: Reading) -> Interpretation:
        """Return a task with the classes and effects of a reading."""
        classes: tuple[str, ...] = ()
        if set(task.heads) & {"detection", "segmentation"}:
            named = reading.classes or reading.excluded or reading.every or reading.anything
            if reading.unknown_objects and not named and not reading.effects:
                return self._refused(text, f"the models do not know {', '.join(reading.unknown_objects)}")
            wanted = set(reading.classes) or set(self._known(task)) - set(reading.excluded)
            if not wanted:
                return self._refused(text, "it leaves no class to look for")
            limited = reading.classes or reading.excluded
            classes = tuple(name for name in self.grammar.classes if name in wanted) if limited else task.classes
        return Interpretation(
            text,
            task=task,
            classes=classes,
            effects=reading.effects,
            ended=reading.ended,
            reset=reading.reset,
            confidence=reading.confidence,
            left_out=reading.unknown_objects,
            source="words",
        )

    def _known(self, task: Task) -> tuple[str, ...]:
        """Return the classes that all heads of a task know."""
        heads = [self.grammar.known[head] for head in task.heads if head in self.grammar.known]
        return (
            tuple(name for name in heads[0] if all(name in each for each in heads)) if heads else self.grammar.classes
        )

    def _refused(self, text: str, reason: str, topic: Topic | None = None) -> Interpretation:
        suggestions = self._suggestions(text, topic)
        message = f"not understood: {reason}; try {', '.join(map(repr, suggestions))}"
        return Interpretation(text, accepted=False, message=message, reason=reason, suggestions=suggestions)

    def _suggestions(self, text: str, topic: Topic | None) -> tuple[str, ...]:
        """Return the nearest instructions that would be understood, by what the text is about and by its letters."""
        samples = [(label, sample) for label, each in self.grammar.samples.items() for sample in each]

        def nearness(entry: tuple[str, str]) -> float:
            letters = difflib.SequenceMatcher(None, text.casefold(), entry[1]).ratio()
            return letters + (topic.rank(entry[0]) if topic else 0.0)

        return tuple(sample for _, sample in sorted(samples, key=nearness, reverse=True)[:SUGGESTIONS])


def describe(read: Interpretation) -> str:
    """Say in one line what was understood."""
    parts = []
    if read.task is not None:
        parts.append(read.task.name + (f" of {listed(read.classes)}" if read.classes else ""))
    if read.reset:
        parts.append("effects reset")
    for effect in read.ended:
        what = EFFECT_KINDS[effect.kind][effect.amount < 0]
        where = f" ({effect.region.name})" if effect.region else ""
        parts += [f"no longer {what}{where}"] if what else []
    parts += map(str, read.effects)
    if read.left_out:
        parts.append(f"not known to the models: {listed(tuple(dict.fromkeys(read.left_out)))}")
    return "; ".join(parts)


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names as they are told, those beyond ``most`` by their number."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _merit(reading: Reading) -> float:
    worth = reading.understood - len(reading.unknown) - 0.5 * reading.mended + 0.5 * reading.says_something
    return worth + 0.3 * (reading.language == "english")
