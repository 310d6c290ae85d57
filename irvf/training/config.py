"""Reads a training's YAML file into its frozen dataclass."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

Config = TypeVar("Config")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def load_config(kind: type[Config], path: Path | None, **overrides: Any) -> Config:
    """Build a configuration: defaults, then the file's entries, then the overrides that are not None.

    Args:
        kind: a dataclass.
        path: YAML mapping of its fields; None for the defaults.
        overrides: fields given on the command line.

    Raises:
        ValueError: not a mapping, an unknown field, or a value of another type; the message names it.
    """
    content = {} if path is None else yaml.safe_load(path.read_text("utf-8")) or {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping of settings")
    content.update({key: value for key, value in overrides.items() if value is not None})
    defaults = kind()
    known = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown settings {', '.join(unknown)}; allowed: {', '.join(known)}")
    hints = get_type_hints(kind)
    for key, value in content.items():
        default = known[key]
        if isinstance(default, tuple) and default and dataclasses.is_dataclass(default[0]):
            entry_type: Any = type(default[0])
            content[key] = tuple(entry_type(**entry) for entry in value)
            continue
        content[key] = _tuples(value)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            content[key] = float(value)
        if not isinstance(content[key], type(default)):
            raise ValueError(f"{path}: {key} must be {hints[key]}, not {value!r}")
    return kind(**content)
