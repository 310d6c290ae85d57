"""The wordings that stage 2 trains the instructions with, and those that are held back to measure it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Wordings:
    """How people ask for one task.

    Attributes:
        training: what a training may draw from.
        held_back: what no training sees, in other words.
    """

    training: tuple[str, ...]
    held_back: tuple[str, ...]


def load_wordings(path: Path | None = None) -> dict[str, Wordings]:
    """Read the wordings of each task.

    Args:
        path: YAML mapping of task names to ``training`` and ``held_back``, lists of texts; None for the package's own.

    Returns:
        The wordings by the name of their task, in the order of the file.

    Raises:
        OSError: the file cannot be opened.
        ValueError: no YAML, another form, a task without wordings, an empty text, or a text that is there twice (also
            in two tasks, and in other case); the message names it.
    """
    path = Path(__file__).with_name("wordings.yaml") if path is None else path
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must be a mapping of task names to training and held_back")
    wordings = {str(task): _wordings(path, task, entry) for task, entry in content.items()}
    texts = Counter(_key(text) for each in wordings.values() for text in (*each.training, *each.held_back))
    twice = [text for text, times in texts.items() if times > 1]
    if twice:
        raise ValueError(f"{path}: a text has one place, {twice[0]!r} has {texts[twice[0]]}")
    return wordings


def _wordings(path: Path, task: object, entry: Any) -> Wordings:
    where = f"{path}: {task}"
    if not isinstance(entry, dict) or set(entry) != {"training", "held_back"}:
        raise ValueError(f"{where}: must have exactly the keys training and held_back, not {entry!r:.80}")
    for section, texts in entry.items():
        if not isinstance(texts, list) or not texts:
            raise ValueError(f"{where}: {section} must be a list of texts, at least one, not {texts!r:.80}")
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{where}: {section}: {text!r} is no text (in quotes where YAML reads it otherwise)")
    return Wordings(tuple(entry["training"]), tuple(entry["held_back"]))


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
