"""The grammar: tasks, regions, and the phrases of each language for them, read from YAML that users extend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from irvf.instruction.instruction import EFFECT_KINDS, Region
from irvf.instruction.tasks import HEADS, Task
from irvf.instruction.words import Words, phrases_of, words_of

FOLDER = Path(__file__).with_name("grammar")
LANGUAGES = ("english", "german", "spanish", "french", "chinese")
"""Files of the folder, in the order in which one of them wins that understands as much as another."""
EFFECT_WORDS = ("more", "less", "amount", "nuisance", "high", "low", "cure", "overdone", "faint")

_LISTS = (
    *(
        "drawn",
        "objects",
        "anything",
        "unknown_objects",
        "up",
        "down",
        "rather",
        "too",
        "little",
        "enough",
        "wish",
        "state",
    ),
    *(
        "slight",
        "strong",
        "negation",
        "denials",
        "except",
        "only",
        "instead",
        "replace",
        "rest",
        "leave",
        "stop",
        "reset",
    ),
    *("joins", "contrast", "whole", "other", "fillers"),
)
_OWN = "own"
"""Sense that the phrases of a user's file have besides."""
_TURNING = ("negation", "denials", "except", "only", "instead", "stop", "joins", "courtesy", *EFFECT_WORDS)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAPPINGS = ("tasks", "courtesy", "classes", "regions", "effects", "pronouns")
_USER_SECTIONS = ("tasks", "classes", "regions", "effects", "fillers")
_TASK_KEYS = {"description", "phrases", "heads", "classes"}
_REGION_KEYS = {"phrases", "zone", "objects", "inverted"}


class GrammarError(ValueError):
    """A file of tasks and words cannot be used; the message names the file, the entry and what is allowed."""


Senses = dict[str, str]
"""What a phrase can mean: kind of sense -> which one, e.g. ``class`` -> ``person``, ``more`` -> ``illumination``."""


@dataclass
class Language:
    """The phrases of one language.

    Attributes:
        name: of the language.
        phrases: phrases without gaps -> what they can mean.
        gapped: by their first word, phrases with gaps: their parts, kind of sense and which one.
    """

    name: str
    phrases: dict[Words, Senses] = field(default_factory=dict)
    gapped: dict[str, list[tuple[tuple[Words, ...], str, str]]] = field(default_factory=dict)

    def add(self, kind: str, name: str, phrases: Iterable[str]) -> None:
        """Give phrases a sense; of two names for one kind of sense the later one stays."""
        for parts in (parts for phrase in phrases for parts in phrases_of(phrase)):
            if len(parts) == 1:
                self.phrases.setdefault(parts[0], {})[kind] = name
            else:
                self.gapped.setdefault(parts[0][0], []).append((parts, kind, name))

    def copy(self) -> Language:
        """Return one that can be added to without this one changing."""
        phrases = {words: dict(senses) for words, senses in self.phrases.items()}
        return Language(self.name, phrases, {word: list(entries) for word, entries in self.gapped.items()})

    @cached_property
    def lexicon(self) -> frozenset[str]:
        """Every word of the phrases; nothing may be added after this was asked for."""
        gapped = (part for entries in self.gapped.values() for parts, _, _ in entries for part in parts)
        return frozenset(word for words in (*self.phrases, *gapped) for word in words)

    @cached_property
    def longest(self) -> int:
        """Number of words of the longest phrase."""
        return max(map(len, self.phrases))


@dataclass(frozen=True, eq=False)
class Grammar:
    """Everything an instruction can mean, and how it is said.

    Attributes:
        tasks: by name.
        regions: by name; the classes are regions, too.
        classes: names of the classes that instructions can name.
        known: names of those that the models know by the head that knows them, where that is known; what "everything
            but the cars" leaves.
        languages: in the order of :data:`LANGUAGES`.
        samples: instructions to suggest, by what they are about: the name of a task, ``effect`` or ``reset``.
    """

    tasks: Mapping[str, Task]
    regions: Mapping[str, Region]
    classes: tuple[str, ...]
    known: Mapping[str, tuple[str, ...]]
    languages: tuple[Language, ...]
    samples: Mapping[str, tuple[str, ...]]


def load_grammar(path: Path | None = None, known_classes: Mapping[str, Iterable[str]] | None = None) -> Grammar:
    """Read the grammar of the package, and a user's file on top of it.

    The file may have these sections:

    - ``tasks``: name -> ``description``, ``phrases``, ``heads``, and if wanted ``classes``, what it is limited to. A
      task with a known name replaces that task: its phrases, too.
    - ``classes``: name of a class -> words for it, added to those that are known.
    - ``regions``: name -> ``phrases`` and ``zone`` (corners) or ``objects`` (classes), ``inverted`` if wanted.
    - ``effects``: kind -> ``more``, ``less`` and the other keys of the package's own files -> words.
    - ``fillers``: words that say nothing.

    Args:
        path: the user's file; None for none.
        known_classes: by the name of a head, the names of the classes that it knows, the background aside; None when
            that is not known yet: then every class of the grammar counts as known.

    Raises:
        GrammarError: naming the file, the entry and what is allowed there.
    """
    base = _packaged()
    tasks, regions = dict(base.tasks), dict(base.regions)
    languages = [language.copy() for language in base.languages]
    samples = dict(base.samples)
    classes = list(base.classes)
    if path is not None:
        try:
            added = _read(path, _USER_SECTIONS)
            _add_tasks(added, tasks, languages, samples)
            classes += [name for name in _add_classes(added, languages) if name not in classes]
            _add_regions(added, regions, languages)
            _add_words(added, languages)
            _check_uses(languages[0])
        except GrammarError as error:
            raise GrammarError(f"{path}: {error}") from error
    known = {head: tuple(names) for head, names in (known_classes or {}).items()}
    for name in dict.fromkeys(name for names in known.values() for name in names):
        _add_label(name, classes, languages)
    for name in classes:
        regions.setdefault(name, Region(name, objects=(name,)))
    return Grammar(tasks, regions, tuple(classes), known, tuple(languages), samples)


def _add_label(name: str, classes: list[str], languages: list[Language]) -> None:
    """Let a class of a model be understood by its name, and one that is called otherwise there by the words for it."""
    if name in classes:
        return
    parts = words_of(name.replace("_", " "))
    other = languages[0].phrases.get(parts, {}).get("class")
    classes.append(name)
    for language in languages:
        if other is not None and other not in ("", name):  # "Pedestrian" for person
            for senses in language.phrases.values():
                if senses.get("class") == other:
                    senses["class"] = name
        senses = language.phrases.setdefault(parts, {})
        if not set(senses) & set(EFFECT_WORDS):  # a class "light" does not take "light" from the effects
            for kind in ("unknown_objects", "other"):
                senses.pop(kind, None)
            senses["class"] = name


@cache
def _packaged() -> Grammar:
    common = _read(FOLDER / "common.yaml", ("tasks", "regions", "samples"))
    tasks = {name: _task(name, {**entry, "phrases": [name]}) for name, entry in common["tasks"].items()}
    regions = {name: _region(name, {**entry, "phrases": [name]}) for name, entry in common["regions"].items()}
    contents = [_read(FOLDER / f"{name}.yaml", (*_MAPPINGS, *_LISTS)) for name in LANGUAGES]
    languages = tuple(_language(name, content) for name, content in zip(LANGUAGES, contents, strict=True))
    for language in languages:
        for name in tasks:
            language.add("task", name, [name])
    classes = tuple(contents[0]["classes"])
    return Grammar(tasks, regions, classes, {}, languages, _samples(common))


def _samples(common: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(_texts(texts, f"samples: {name}")) for name, texts in common["samples"].items()}


def _language(name: str, content: Mapping[str, Any]) -> Language:
    language = Language(name)
    for section, kind in (("tasks", "task"), ("courtesy", "courtesy"), ("classes", "class"), ("regions", "region")):
        for entry, phrases in _section(content, section, dict).items():
            language.add(kind, entry, _texts(phrases, f"{section}: {entry}"))
    for entry in _section(content, "classes", dict):
        if name == LANGUAGES[0]:
            language.add("class", entry, [entry])
    for effect, words in _section(content, "effects", dict).items():
        for kind, phrases in words.items():
            language.add(kind, effect, _texts(phrases, f"effects: {effect}: {kind}"))
    for kind, phrases in _section(content, "pronouns", dict).items():
        language.add(kind, kind, _texts(phrases, f"pronouns: {kind}"))
    for section in _LISTS:
        language.add(section, section, _texts(_section(content, section, list), section))
    return language


def _add_tasks(
    added: Mapping[str, Any], tasks: dict[str, Task], languages: list[Language], samples: dict[str, tuple[str, ...]]
) -> None:
    for name, entry in _section(added, "tasks", dict).items():
        tasks[name] = _task(name, entry)
        phrases = (name, *entry["phrases"])
        samples[name] = tuple(entry["phrases"][:2])
        for language in languages:
            for senses in language.phrases.values():
                for kind in ("task", "courtesy"):
                    if senses.get(kind) == name:
                        del senses[kind]
            for word, entries in language.gapped.items():
                language.gapped[word] = [
                    each for each in entries if each[1:] not in (("task", name), ("courtesy", name))
                ]
            _claim(language, "task", name, phrases)


def _add_classes(added: Mapping[str, Any], languages: list[Language]) -> Iterator[str]:
    for name, words in _section(added, "classes", dict).items():
        _check_name(name, "classes")
        for language in languages:
            _claim(language, "class", name, (name, *_texts(words, f"classes: {name}")))
        yield name


def _add_regions(added: Mapping[str, Any], regions: dict[str, Region], languages: list[Language]) -> None:
    for name, entry in _section(added, "regions", dict).items():
        regions[name] = _region(name, entry)
        for language in languages:
            _claim(language, "region", name, (name, *entry["phrases"]))


def _add_words(added: Mapping[str, Any], languages: list[Language]) -> None:
    for effect, words in _section(added, "effects", dict).items():
        if effect not in EFFECT_KINDS or not isinstance(words, dict) or set(words) - set(EFFECT_WORDS):
            raise GrammarError(
                f"effects: {effect}: must be one of {', '.join(EFFECT_KINDS)}, with {', '.join(EFFECT_WORDS)}"
            )
        for kind, phrases in words.items():
            for language in languages:
                for sense, name in ((kind, effect), (_OWN, _OWN)):
                    language.add(sense, name, _texts(phrases, f"effects: {effect}: {kind}"))
    fillers = _texts(_section(added, "fillers", list), "fillers")
    for language in languages:
        language.add("fillers", "fillers", fillers)
        for parts in (parts for phrase in fillers for parts in phrases_of(phrase) if len(parts) == 1):
            for kind in ("unknown_objects", "other"):
                language.phrases[parts[0]].pop(kind, None)


def _claim(language: Language, kind: str, name: str, phrases: Iterable[str]) -> None:
    """Give phrases of a user their sense, and no other; a phrase has one owner of a kind."""
    for phrase in phrases:
        for parts in phrases_of(phrase):
            if len(parts) > 1:
                language.gapped.setdefault(parts[0][0], []).append((parts, kind, name))
                continue
            senses = language.phrases.get(parts[0], {})
            owner = senses.get(kind, name)
            if owner != name:
                raise GrammarError(f"{name}: {phrase!r} already belongs to {owner}; a phrase has one owner")
            taken = next((sense for sense in _TURNING if sense in senses), None)
            if taken and language.name == LANGUAGES[0] and kind != "task":
                raise GrammarError(f"{name}: {phrase!r} already turns what is said ({taken}); choose another word")
            # A task of a user may be called as a class of the package; the other way round is refused.
            others = ("task", "region") if kind == "task" else ("task", "class", "region")
            kept = {other: value for other, value in senses.items() if other in others}
            language.phrases[parts[0]] = {**kept, kind: name, _OWN: _OWN}


def _check_uses(language: Language) -> None:
    for words, senses in language.phrases.items():
        if {"task", "class"} <= set(senses):
            raise GrammarError(
                f"classes: {senses['class']}: {' '.join(words)!r} already asks for {senses['task']}; a word has one use"
            )


def _read(path: Path, sections: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_LOADER)  # noqa: S506  (both of them are safe)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise GrammarError(f"cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise GrammarError(f"must be a mapping with the sections {', '.join(sections)}")
    unknown = [str(name) for name in content if name not in sections]
    if unknown:
        raise GrammarError(f"section {unknown[0]!r} is unknown; allowed: {', '.join(sections)}")
    return content


def _section(content: Mapping[str, Any], name: str, kind: type) -> Any:
    section = content.get(name) or kind()
    if not isinstance(section, kind):
        wanted = "mapping of names" if kind is dict else "list of words"
        raise GrammarError(f"{name}: must be a {wanted}, not {section!r}")
    return section


def _check_name(name: object, section: str) -> None:
    if not isinstance(name, str) or not any(map(str.isalnum, name)):
        raise GrammarError(f"{section}: the name {name!r} must be a word (in quotes where YAML reads it otherwise)")


def _texts(entries: object, where: str) -> list[str]:
    if not isinstance(entries, list):
        raise GrammarError(f"{where}: must be a list of words, not {entries!r}")
    for entry in entries:
        if not isinstance(entry, str) or not any(map(str.isalnum, entry)):
            raise GrammarError(
                f"{where}: {entry!r} is no phrase; text is needed (in quotes where YAML reads it otherwise)"
            )
    return entries


def _task(name: object, entry: object) -> Task:
    _check_name(name, "tasks")
    where = f"tasks: {name}"
    if not isinstance(entry, dict) or not _TASK_KEYS - {"classes"} <= set(entry) <= _TASK_KEYS:
        keys = list(entry) if isinstance(entry, dict) else entry
        raise GrammarError(f"{where}: must have the keys description, phrases, heads (and classes), not {keys!r}")
    if not isinstance(entry["description"], str):
        raise GrammarError(f"{where}: description must be a text, not {entry['description']!r}")
    heads = entry["heads"]
    if not isinstance(heads, list) or any(head not in HEADS for head in heads):
        raise GrammarError(f"{where}: heads must be a list of {', '.join(HEADS)} (empty for none), not {heads!r}")
    _texts(entry["phrases"], f"{where}: phrases")
    classes = _texts(entry.get("classes", []), f"{where}: classes")
    return Task(str(name), entry["description"], tuple(heads), tuple(classes))


def _region(name: object, entry: object) -> Region:
    _check_name(name, "regions")
    where = f"regions: {name}"
    if not isinstance(entry, dict) or set(entry) - _REGION_KEYS or len({"zone", "objects"} & set(entry)) != 1:
        raise GrammarError(f"{where}: must have phrases, and zone or objects (and inverted), not {entry!r}")
    _texts(entry.get("phrases"), f"{where}: phrases")
    inverted = entry.get("inverted", False)
    if not isinstance(inverted, bool):
        raise GrammarError(f"{where}: inverted must be true or false, not {inverted!r}")
    if "objects" in entry:
        objects = tuple(_texts(entry["objects"], f"{where}: objects"))
        return Region(str(name), objects=objects, inverted=inverted)
    return Region(str(name), zone=_polygon(entry["zone"], where), inverted=inverted)


def _polygon(corners: object, where: str) -> tuple[tuple[float, float], ...]:
    try:
        polygon = tuple((float(x), float(y)) for x, y in corners)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        polygon = ()
    if len(polygon) < 3 or not all(0 <= number <= 1 for corner in polygon for number in corner):
        raise GrammarError(
            f"{where}: zone must be three or more corners [x, y] with numbers of 0 to 1, not {corners!r}"
        )
    return polygon
