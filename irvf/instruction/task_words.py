"""Reads what is to be found: tasks and classes that are wanted, and those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from irvf.instruction.grammar import EFFECT_WORDS
from irvf.instruction.mentions import Clause, Mention
from irvf.instruction.words import BREAK, COLON

OBJECTS_TASK = "detection"
LOOKING_TASK = "viewing"
FOUND = ("task", "objects", "anything", "drawn")
"""Senses of what can be found in the image, or drawn into it."""


def searches(clause: Clause) -> bool:
    """Whether a clause asks for something to be found, and not only to be looked at."""
    return clause.any("task") or any(mention.senses["courtesy"] != LOOKING_TASK for mention in clause.of("courtesy"))


@dataclass
class _Mode:
    """Whether what comes next is wanted: empty, or the kind of word that says it is not; and what it hit so far."""

    kind: str = ""
    used: bool = False
    task: str = ""
    drawn: bool = False


@dataclass
class TaskReader:
    """Takes a text clause by clause.

    Attributes:
        tasks: that are wished.
        courtesies: tasks that are meant where no other is.
        unwanted: tasks that are not wanted.
        classes: that are wished.
        excluded: classes that are not wanted.
        every: whether all objects are named.
        anything: whether a word that may stand for them is: "everything".
        listed: whether a clause is nothing but names of classes.
        picture: whether a picture is asked for.
        only: whether the classes are said to be all that is wanted.
        problem: why it cannot be followed; empty when it can.
    """

    tasks: list[str] = field(default_factory=list)
    courtesies: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    every: bool = False
    anything: bool = False
    listed: bool = False
    picture: bool = False
    only: bool = False
    problem: str = ""
    _mode: _Mode = field(default_factory=_Mode)
    _dropped: list[str] = field(default_factory=list)  # classes that were only named to say what is not meant
    _reverted: list[str] = field(default_factory=list)  # tasks of which only some classes are not wanted
    _complained: list[str] = field(default_factory=list)  # tasks whose result was found wanting

    def take(self, clause: Clause, named: Sequence[str], *, regions: bool) -> None:
        """Take what the next clause wants to be found, or does not.

        Args:
            clause: of the text.
            named: classes that were named before, for pronouns.
            regions: whether its classes are regions of effects.
        """
        before, classes_before = len(self.tasks), len(self.classes)
        mode = _Mode(self._mode.kind if self._goes_on(clause) else "")
        for at, mention in enumerate(clause.mentions):
            mode = self._turned(mode, clause, mention)
            if mention.any("task", "drawn"):
                self._take_task(mode, mention, complained=_complains(clause))
            elif "class" in mention and not regions:
                self._take_class(mode, mention.senses["class"], clause.mentions[at + 1 :])
            elif mention.any("objects", "anything") and not regions:
                self._take_objects(mode, clause, mention)
            elif "courtesy" in mention:
                self._take_courtesy(mode, clause, mention, classes_before)
        self.listed = self.listed or (not regions and all("class" in mention for mention in clause.mentions))
        self._take_back(clause, before)
        if clause.any("persons") and len(self.tasks) > before and not clause.any("class"):
            self.classes += named
            self.excluded = [name for name in self.excluded if name not in named]
        if clause.any("rest") and self.excluded:
            self.every = True
        self._mode = mode

    def _turned(self, mode: _Mode, clause: Clause, mention: Mention) -> _Mode:
        """Return whether what follows a mention is wanted, and if not, why."""
        if "tail" in mention or ("wish" in mention and mode.kind == "instead"):
            return _Mode()
        if "only" in mention:
            self.only = True
            return _Mode()
        if "except" in mention and mode.kind in ("except", "stop") and not mode.used:
            self.only = True  # "ignore everything but people"
            return _Mode()
        twice = mode.kind in ("negation", "denial") and not mode.used
        if twice and "negation" in mention and "except" not in mention and str(mention) in ("not", "never", "dont"):
            self.problem = "it contradicts itself by a double negation"
        kind = _kind_of_no(clause, mention)
        return _Mode(kind) if kind else mode

    def _take_task(self, mode: _Mode, mention: Mention, *, complained: bool) -> None:
        task = mention.senses.get("task", OBJECTS_TASK)
        if mode.kind == "denial":
            return
        if mode.kind:
            mode.used = True
            mode.task = "" if "drawn" in mention else task
            mode.drawn = "drawn" in mention
            self.unwanted.append(task)
        elif "task" in mention:
            (self._complained if complained else self.tasks).append(task)

    def _take_class(self, mode: _Mode, name: str, following: Sequence[Mention]) -> None:
        if mode.kind in ("", "denial"):
            self.classes.append(name)
        elif mode.kind == "instead":
            self._dropped.append(name)
        elif not mode.drawn:
            self.excluded.append(name)
            if mode.task:  # "do not detect cars" is no word against detection
                self.unwanted.remove(mode.task)
                self._reverted.append(mode.task)
                mode.task = ""
            # Used up by the class, where something other than a class comes next: "no cars in the detections".
            first = next((mention for mention in following if mention.meaningful), None)
            if first is not None and "class" not in first:
                mode.kind = ""

    def _take_objects(self, mode: _Mode, clause: Clause, mention: Mention) -> None:
        if not mode.kind:
            self.every = self.every or "objects" in mention
            self.anything = self.anything or "anything" in mention
        elif not mode.used and mode.kind != "denial" and not clause.any("task", "courtesy", "reset"):
            self.unwanted.append(OBJECTS_TASK)

    def _take_courtesy(self, mode: _Mode, clause: Clause, mention: Mention, classes_before: int) -> None:
        task = mention.senses["courtesy"]
        looks = not mention.any("wish", "rather") and "show" not in mention.words
        if mode.kind in ("", "denial"):
            self.courtesies.append(task)
            self.picture = self.picture or (
                task == LOOKING_TASK and not {"picture", "image", "photo"}.isdisjoint(mention.words)
            )
            if task == LOOKING_TASK and looks and not searches(clause):
                del self.classes[classes_before:]  # "let the guards watch": they look, and are not looked for
        elif task == OBJECTS_TASK and not clause.any("task"):
            mode.used, mode.task = True, task
            self.unwanted.append(task)

    def _take_back(self, clause: Clause, before: int) -> None:
        """Take back what stands before the word that says that it is not wanted: "masks off", "cars can be ignored"."""
        last = max((at for at, mention in enumerate(clause.mentions) if mention.any("except", "stop")), default=-1)
        trailing = len(clause.mentions) - 1
        if last < 0 and trailing > 0 and "negation" in clause.mentions[trailing]:
            last = trailing  # "bikes no"
        following = clause.mentions[last:] if last >= 0 else []
        if not following or any("class" in mention for mention in following):
            return
        word, names = (
            following[0],
            [mention.senses["class"] for mention in clause.mentions[:last] if "class" in mention],
        )
        asked = any(mention.any("task", "drawn") for mention in following)
        if not asked and (len(self.tasks) > before or ("stop" in word and clause.any("drawn"))):
            self.unwanted += self.tasks[before:] or [OBJECTS_TASK]
            del self.tasks[before:]
        elif word.any("except", "negation") and names and not clause.any("objects", "anything"):
            self.classes = [name for name in self.classes if name not in names]
            self.excluded += names
            if asked and self.unwanted:  # "cars should not be boxed" is no word against boxes
                self._reverted.append(self.unwanted.pop())

    def _goes_on(self, clause: Clause) -> bool:
        """Whether what was not wanted goes on: "everything except cars and bikes"."""
        if clause.any("only") or "class" not in clause.mentions[0]:
            return False
        if clause.joined == COLON:
            return True
        names = all("class" in mention for mention in clause.mentions if mention.meaningful)
        return clause.joined == "and" or (clause.joined == BREAK and names and self._mode.kind in ("except", "stop"))

    def settle(self) -> None:
        """Weigh what was wanted against what was not, when all clauses are taken."""
        if not self.tasks:
            self.tasks += self._reverted
            self.unwanted += self._complained
        self.tasks, self.unwanted, self.excluded = (
            list(dict.fromkeys(names)) for names in (self.tasks, self.unwanted, self.excluded)
        )
        both = [task for task in self.tasks if task in self.unwanted]
        if both and not self.problem:
            self.problem = f"it contradicts itself: it both wants and does not want {both[0]}"
        torn = [name for name in self.classes if name in self.excluded]
        if torn and not self.problem:
            self.problem = f"it contradicts itself: it both wants and does not want {torn[0]}"
        self.courtesies = list(dict.fromkeys(self.courtesies))
        wished = [name for name in dict.fromkeys(self.classes) if name not in self.excluded]
        self.classes = [name for name in wished if name not in self._dropped] or wished


def _kind_of_no(clause: Clause, mention: Mention) -> str:
    """Return in which way a mention says that what follows is not wanted; empty when it does not."""
    kinds = {
        "instead": mention.any("instead", "replace") and "negation" not in mention,
        "except": "except" in mention,
        "negation": "negation" in mention,
        "stop": "stop" in mention and clause.any(*FOUND),
        "denial": "denials" in mention and not clause.any("up", "down", *EFFECT_WORDS),
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def _complains(clause: Clause) -> bool:
    return clause.any("too") and clause.any("state") and not clause.any("wish")
