"""Reads a text by the grammar of one language: what it wishes, what it does not want, and what it leaves unsaid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from irvf.instruction.grammar import EFFECT_WORDS, Grammar, Language
from irvf.instruction.instruction import Effect, Region
from irvf.instruction.mentions import clauses_of
from irvf.instruction.region_words import ContradictionError, EffectReader
from irvf.instruction.task_words import FOUND, TaskReader, searches


@dataclass(frozen=True)
class Reading:
    """What a text says, by the grammar of one language.

    Attributes:
        language: its name.
        tasks: that are wished.
        courtesies: tasks that are meant where no other is.
        unwanted: tasks that are not wanted.
        classes: that are wished.
        excluded: classes that are not wanted.
        every: whether all objects are named.
        anything: whether a word that may stand for them is: "everything".
        listed: whether classes are named by themselves: "cars and people, more contrast".
        picture: whether a picture is asked for: "a nice picture of the people".
        only: whether the classes are said to be all that is wanted.
        effects: that are wished.
        ended: effects that are not to be.
        reset: whether the effects before are to go.
        unknown: words that are in no phrase.
        unknown_objects: objects that the models do not know.
        other: words that are never about the image.
        understood: number of phrases that say something.
        own: whether it has a phrase of the user's own grammar.
        names_only: whether it is nothing but names of objects.
        mended: number of words that were taken for typing errors.
        problem: why it cannot be followed; empty when it can.
    """

    language: str
    tasks: tuple[str, ...] = ()
    courtesies: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    every: bool = False
    anything: bool = False
    listed: bool = False
    picture: bool = False
    only: bool = False
    effects: tuple[Effect, ...] = ()
    ended: tuple[Effect, ...] = ()
    reset: bool = False
    unknown: tuple[str, ...] = ()
    unknown_objects: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    understood: int = 0
    own: bool = False
    names_only: bool = False
    mended: int = 0
    problem: str = ""

    @property
    def says_something(self) -> bool:
        """Whether anything can be done because of it."""
        wanted = (self.tasks, self.courtesies, self.classes, self.effects, self.reset)
        said = (*wanted, self.unwanted, self.excluded, self.ended)
        return any(said)

    @property
    def complete(self) -> bool:
        """Whether every word of it is known, and none of them is about something else."""
        return not (self.unknown or self.other or self.unknown_objects)

    @property
    def plain(self) -> bool:
        """Whether all of it is understood and asks for something that can be found: "show me the people, please"."""
        found = bool(self.classes or self.excluded or self.every)
        asks = found and bool(self.tasks or self.courtesies or self.only or self.excluded or self.listed)
        return self.names_only or (self.complete and (asks or self.own) and not self.mended)

    @property
    def negates(self) -> bool:
        """Whether something is not wanted."""
        return bool(self.unwanted or self.excluded)

    @property
    def confidence(self) -> float:
        """Share of what it says that was understood, 0..1."""
        return self.understood / max(1, self.understood + len(self.unknown) + 2 * len(self.other))


def read(
    words: Sequence[str],
    grammar: Grammar,
    language: Language,
    mend: Callable[[str], str | None],
    context: Sequence[Region] = (),
) -> Reading:
    """Read a text.

    Args:
        words: of :func:`irvf.instruction.words.words_of`.
        grammar: tasks and regions.
        language: of the grammar.
        mend: as :func:`irvf.instruction.mentions.clauses_of` takes it.
        context: regions that a pronoun points to where the text names none.
    """
    clauses = clauses_of(words, language, mend)
    mentions = [mention for clause in clauses for mention in clause.mentions]
    tasks, effects = TaskReader(), EffectReader(grammar.regions, context)
    unknown = [str(mention) for mention in mentions if mention.unknown]
    foreign: list[str] = []
    other = [str(mention) for mention in mentions if "other" in mention]
    reset = False
    for clause in clauses:
        strange = [str(mention) for mention in clause.of("unknown_objects") if "class" not in mention]
        (foreign if searches(clause) or not any(map(searches, clauses)) else unknown).extend(strange)
        negated = clause.any("negation") and not clause.any("task")
        of_effects = effects.take(clause)
        reset = reset or (clause.any("reset") and not negated and not of_effects)
        if not of_effects or searches(clause):
            tasks.take(clause, effects.named_classes(), regions=effects.belongs_to_effects(clause))
        effects.remember(clause)
        if clause.any("stop") and clause.any("class") and not clause.any("reset", *FOUND, *EFFECT_WORDS):
            other += [str(mention) for mention in clause.of("stop")]  # "stop the car" is no word to a camera
    tasks.settle()
    problem = tasks.problem
    found: list[Effect] = []
    try:
        found = effects.effects(speaks_of_tasks=bool(tasks.tasks))
    except ContradictionError as error:
        problem = problem or str(error)
    if effects.dangling and not problem:
        problem = f"it does not say what {effects.dangling!r} is"
    if effects.unfound and not problem:
        problem = f"the models do not know {effects.unfound}"
    given = set(words)
    return Reading(
        language.name,
        tasks=tuple(tasks.tasks),
        courtesies=tuple(tasks.courtesies),
        unwanted=tuple(tasks.unwanted),
        classes=tuple(tasks.classes),
        excluded=tuple(tasks.excluded),
        every=tasks.every,
        anything=tasks.anything,
        listed=tasks.listed and not effects.took_names,
        picture=tasks.picture,
        only=tasks.only,
        effects=tuple(found),
        ended=tuple(effects.ended),
        reset=reset,
        unknown=tuple(unknown),
        unknown_objects=tuple(foreign),
        other=tuple(other),
        understood=sum(mention.meaningful and not mention.any("other", "unknown_objects") for mention in mentions),
        own=any("own" in mention for mention in mentions),
        names_only=all("class" in mention for mention in mentions),
        mended=sum(word not in given for mention in mentions for word in mention.words),
        problem=problem,
    )
