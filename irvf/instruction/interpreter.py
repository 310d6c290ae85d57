"""Reads instructions by rules: task names, a phrase table, class words, negation. The rest is refused."""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from irvf.instruction.instruction import Instruction
from irvf.instruction.tasks import Task, TaskTable, Words, words_of

MAX_LENGTH = 200
"""Longest instruction in characters."""
MIN_CONFIDENCE = 0.5
"""An instruction is accepted when more than this share of what it says is understood."""

_CLASS_TASK = "detection"
_NO_OBJECTS_TASK = "viewing"
_NEGATIONS = frozenset(
    {"no", "not", "none", "never", "nothing", "nobody", "nor", "neither", "without", "stop", "disable", "off", "dont"}
)
_DENIALS = frozenset({"doesnt", "didnt", "cant", "cannot", "couldnt", "wont", "wouldnt", "shouldnt", "isnt", "arent"})
"""What a complaint says, not a wish: "I can't find anybody"."""
_EXCEPTIONS = frozenset(
    {"except", "excepting", "excluding", "exclude", "but", "beside", "instead", "ignore", "ignoring", "than", "apart"}
)
_CLOSE = 0.75


@dataclass(frozen=True)
class Interpretation:
    """What became of a text.

    Attributes:
        text: cleaned; empty when it was too long to be looked at.
        task: what it asks for; None when it was refused.
        classes: names that detections are limited to; empty for all.
        confidence: share of it that was understood, 0..1; 0 when it was refused.
        message: what was understood, or why it was refused and what is known.
    """

    text: str
    task: Task | None
    classes: tuple[str, ...]
    confidence: float
    message: str

    @property
    def accepted(self) -> bool:
        """Whether it was understood."""
        return self.task is not None

    def instruction(self, sequence: int) -> Instruction:
        """Return it as the instruction number ``sequence``.

        Raises:
            ValueError: it was refused.
        """
        if self.task is None:
            raise ValueError(self.message)
        return Instruction(self.text, self.task, self.classes, self.confidence, sequence)


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


@dataclass(frozen=True)
class _Mention:
    """A piece of the text: a task, class, negation, denial, exception, filler or unknown word, and which one."""

    kind: str
    name: str


class Interpreter:
    """Understands instructions.

    Args:
        tasks: what can be asked for.
    """

    def __init__(self, tasks: TaskTable) -> None:
        self._table = tasks
        self._longest = max(map(len, (*tasks.phrases, *tasks.classes, *tasks.fillers)))

    def interpret(self, text: str) -> Interpretation:
        """Understand a text or refuse it; never raises.

        The name of a task asks for it. Otherwise its phrases do, the longest first, and class words limit the objects;
        class words alone ask for detection. Refused are two tasks at once, exceptions ("everything but cars"), and
        texts of which half or more says something unknown. A negation is understood only where it leaves nothing but
        viewing ("no boxes", "do not detect anything").

        Args:
            text: from the user, of any length and content.
        """
        if len(text) > MAX_LENGTH:
            return self._refused("", f"the instruction has {len(text)} characters; at most {MAX_LENGTH} are read")
        cleaned = clean_text(text)
        words = words_of(cleaned)
        if not words:
            return self._refused(cleaned, "the instruction is empty")
        for name, task in self._table.tasks.items():
            if words == words_of(name):
                return self._accepted(cleaned, task, (), 1.0, ())
        mentions = list(self._mentions(words))
        kinds = {mention.kind for mention in mentions}
        if "exception" in kinds:
            word = next(mention.name for mention in mentions if mention.kind == "exception")
            return self._refused(cleaned, f"exceptions ({word!r}) are not understood; name what is wanted")
        if kinds & {"negation", "denial"}:
            return self._without(cleaned, mentions)
        return self._asked(cleaned, mentions)

    def _mentions(self, words: Words) -> Iterator[_Mention]:
        """Name what the words stand for, longest phrases first; fillers are left out."""
        start = 0
        while start < len(words):
            mention, length = self._mention(words[start : start + self._longest])
            if mention.kind != "filler":
                yield mention
            start += length

    def _mention(self, words: Words) -> tuple[_Mention, int]:
        """Name what the longest known beginning stands for, and how many words it has."""
        for length in range(len(words), 0, -1):
            phrase = words[:length]
            for kind, owners in (("task", self._table.phrases), ("class", self._table.classes)):
                if phrase in owners:
                    return _Mention(kind, owners[phrase]), length
            if phrase in self._table.fillers:
                return _Mention("filler", ""), length
        word = words[0]
        special = {"negation": _NEGATIONS, "denial": _DENIALS, "exception": _EXCEPTIONS}
        return _Mention(next((kind for kind, known in special.items() if word in known), "unknown"), word), 1

    def _asked(self, text: str, mentions: list[_Mention]) -> Interpretation:
        tasks, classes, unknown = (_named(mentions, kind) for kind in ("task", "class", "unknown"))
        if len(tasks) > 1:
            return self._refused(text, f"the instruction asks for {' and '.join(tasks)} at once; give one of them")
        if not tasks and classes:
            tasks = (_CLASS_TASK,)
            understood = len(classes)
        else:
            understood = len(tasks) + len(classes)
        confidence = understood / max(1, understood + len(unknown))
        if confidence <= MIN_CONFIDENCE:
            why = f"unknown: {', '.join(unknown)}" if unknown else "it names no task"
            return self._refused(text, f"the instruction is not understood ({why})", unknown)
        return self._accepted(text, self._table.tasks[tasks[0]], classes, confidence, unknown)

    def _without(self, text: str, mentions: list[_Mention]) -> Interpretation:
        """Understand a negation that leaves nothing to be found; refuse any other."""
        said = [mention for mention in mentions if mention.kind in ("negation", "task")]
        tasks = _named(said, "task")
        doubled = any(first.kind == second.kind == "negation" for first, second in itertools.pairwise(said))
        one_task = len(set(tasks) - {_NO_OBJECTS_TASK}) == 1
        if len(said) < len(mentions) or doubled or not one_task or _NO_OBJECTS_TASK in _negated(said):
            return self._refused(text, "a negation is understood only as in 'no boxes'; say what is wanted instead")
        return self._accepted(text, self._table.tasks[_NO_OBJECTS_TASK], (), 1.0, ())

    def _accepted(
        self, text: str, task: Task, classes: tuple[str, ...], confidence: float, unknown: tuple[str, ...]
    ) -> Interpretation:
        kept = classes if task.heads else ()
        message = task.name + (f" of {', '.join(kept)}" if kept else "")
        if unknown:
            message += f" (not understood: {', '.join(unknown)})"
        return Interpretation(text, task, kept, confidence, message)

    def _refused(self, text: str, reason: str, unknown: tuple[str, ...] = ()) -> Interpretation:
        known = [" ".join(words) for words in (*self._table.phrases, *self._table.classes)]
        matches = (difflib.get_close_matches(word, known, n=1, cutoff=_CLOSE) for word in unknown)
        close = dict.fromkeys(name for names in matches for name in names)
        hint = f"; did you mean {', '.join(map(repr, close))}?" if close else "."
        names = ", ".join(self._table.tasks)
        classes = ", ".join(self._table.class_names)
        return Interpretation(text, None, (), 0.0, f"{reason}{hint} Known tasks: {names}. Known classes: {classes}.")


def _named(mentions: list[_Mention], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mention.name for mention in mentions if mention.kind == kind))


def _negated(mentions: list[_Mention]) -> Iterator[str]:
    """Name what each negation is about: the next thing mentioned, or the last when none follows."""
    for position, mention in enumerate(mentions):
        if mention.kind == "negation":
            following = [later.name for later in mentions[position + 1 :] if later.kind != "negation"]
            before = [earlier.name for earlier in mentions[:position] if earlier.kind != "negation"]
            yield from (following[:1] or before[-1:])
