"""The tasks and the words that ask for them: a table in YAML that users extend with a file of their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HEADS = ("detection", "segmentation", "saliency")
"""What can run on the fused image."""

Words = tuple[str, ...]

_ARTICLES = frozenset({"a", "an", "the"})
_APOSTROPHES = ("'", "\N{RIGHT SINGLE QUOTATION MARK}")
_SECTIONS = ("tasks", "classes", "fillers")
_TASK_KEYS = ("description", "phrases", "heads")


class TaskTableError(ValueError):
    """A file of tasks cannot be used; the message names the file, the entry and what is allowed."""


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: asks for the task, too.
        description: one line for the user.
        phrases: words that ask for it.
        heads: of :data:`HEADS`, what runs on the fused image; empty when it is only looked at.
    """

    name: str
    description: str
    phrases: tuple[str, ...]
    heads: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TaskTable:
    """Everything an instruction can mean.

    Attributes:
        tasks: by name.
        phrases: the words of each phrase to the name of its task.
        classes: the words that name objects to the name of their class.
        fillers: words and phrases that say nothing about the task.
    """

    tasks: Mapping[str, Task]
    phrases: Mapping[Words, str]
    classes: Mapping[Words, str]
    fillers: frozenset[Words]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, each once."""
        return tuple(dict.fromkeys(self.classes.values()))


def words_of(text: str) -> Words:
    """Split a text into words as they are compared: lower case, singular, without articles and punctuation.

    Apostrophes are dropped, so that "don't" is "dont".
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    for apostrophe in _APOSTROPHES:
        plain = plain.replace(apostrophe, "")
    spaced = "".join(character if character.isalnum() else " " for character in plain)
    return tuple(_singular(word) for word in spaced.split() if word not in _ARTICLES)


def _singular(word: str) -> str:
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word.removesuffix("s")


def load_tasks(path: Path | None = None) -> TaskTable:
    """Read the table of the package, and a user's file on top of it.

    The file has the sections of ``irvf/instruction/tasks.yaml``, each optional. A task with a known name replaces that
    task; words of a known class and fillers are added.

    Raises:
        TaskTableError: naming the file, the entry and what is allowed there.
    """
    content = _read(Path(__file__).with_name("tasks.yaml"))
    tasks = {name: _task(name, entry) for name, entry in content["tasks"].items()}
    classes = {name: list(words) for name, words in content["classes"].items()}
    fillers = list(content["fillers"])
    if path is None:
        return _table(tasks, classes, fillers)
    try:
        added = _read(path)
        for name, entry in _section(added, "tasks", dict).items():
            tasks[name] = _task(name, entry)
        for name, words in _section(added, "classes", dict).items():
            _check_name(name, "classes")
            classes.setdefault(name, []).extend(_texts(words, f"classes: {name}"))
        fillers += _texts(_section(added, "fillers", list), "fillers")
        return _table(tasks, classes, fillers)
    except TaskTableError as error:
        raise TaskTableError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise TaskTableError(f"cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise TaskTableError(f"must be a mapping with the sections {', '.join(_SECTIONS)}")
    unknown = [str(name) for name in content if name not in _SECTIONS]
    if unknown:
        raise TaskTableError(f"section {unknown[0]!r} is unknown; allowed: {', '.join(_SECTIONS)}")
    return content


def _section(content: dict[str, Any], name: str, kind: type) -> Any:
    section = content.get(name) or kind()
    if not isinstance(section, kind):
        wanted = "mapping of names" if kind is dict else "list of words"
        raise TaskTableError(f"{name}: must be a {wanted}, not {section!r}")
    return section


def _check_name(name: object, section: str) -> None:
    if not isinstance(name, str) or not words_of(name):
        raise TaskTableError(f"{section}: the name {name!r} must be a word (in quotes where YAML reads it otherwise)")


def _texts(entries: object, where: str) -> list[str]:
    if not isinstance(entries, list):
        raise TaskTableError(f"{where}: must be a list of words, not {entries!r}")
    for entry in entries:
        if not isinstance(entry, str) or not words_of(entry):
            raise TaskTableError(
                f"{where}: {entry!r} is no phrase; text is needed (in quotes where YAML reads it otherwise)"
            )
    return entries


def _task(name: object, entry: object) -> Task:
    _check_name(name, "tasks")
    where = f"tasks: {name}"
    if not isinstance(entry, dict) or set(entry) != set(_TASK_KEYS):
        keys = list(entry) if isinstance(entry, dict) else entry
        raise TaskTableError(f"{where}: must have exactly the keys {', '.join(_TASK_KEYS)}, not {keys!r}")
    if not isinstance(entry["description"], str):
        raise TaskTableError(f"{where}: description must be a text, not {entry['description']!r}")
    heads = entry["heads"]
    if not isinstance(heads, list) or any(head not in HEADS for head in heads):
        raise TaskTableError(f"{where}: heads must be a list of {', '.join(HEADS)} (empty for none), not {heads!r}")
    phrases = _texts(entry["phrases"], f"{where}: phrases")
    return Task(str(name), entry["description"], tuple(phrases), tuple(heads))


def _table(tasks: dict[str, Task], classes: dict[str, list[str]], fillers: list[str]) -> TaskTable:
    phrases: dict[Words, str] = {}
    for task in tasks.values():
        for phrase in (task.name, *task.phrases):
            _claim(phrases, phrase, task.name, "tasks")
    names: dict[Words, str] = {}
    for name, words in classes.items():
        for word in (name, *words):
            _claim(names, word, name, "classes")
            task_name = phrases.get(words_of(word))
            if task_name:
                raise TaskTableError(f"classes: {name}: {word!r} already asks for {task_name}; a word has one use")
    return TaskTable(tasks, phrases, names, frozenset(map(words_of, fillers)))


def _claim(owners: dict[Words, str], phrase: str, owner: str, section: str) -> None:
    first = owners.setdefault(words_of(phrase), owner)
    if first != owner:
        raise TaskTableError(f"{section}: {owner}: {phrase!r} already belongs to {first}; a phrase has one owner")
