"""Reads a training's YAML file into its frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

Config = TypeVar("Config")


def load_config(kind: type[Config], path: Path | None, **overrides: Any) -> Config:
    """Build a configuration: defaults, then the file's entries, then the overrides that are not None.

    Args:
        kind: a dataclass.
        path: YAML mapping of its fields; None for the defaults.
        overrides: fields given on the command line.

    Raises:
        OSError: the file cannot be opened.
        ValueError: no YAML, not a mapping, an unknown field, or a value of another type; the message names it.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        content = {} if path is None else yaml.safe_load(path.read_text("utf-8"))
        return _build(kind, {} if content is None else content, given)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ValueError(f"{path or 'configuration'}: {error}") from error


def _build(kind: type[Config], entries: Any, overrides: Mapping[str, Any]) -> Config:
    if not isinstance(entries, Mapping):
        raise ValueError(f"settings must be a mapping of names to values, not {entries!r}")
    content = {**entries, **overrides}
    allowed = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass
    unknown = [str(key) for key in content if key not in allowed]
    if unknown:
        raise ValueError(f"unknown settings {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    hints = get_type_hints(kind)
    values = {key: _convert(value, hints[key], key) for key, value in content.items()}
    try:
        return kind(**values)
    except TypeError as error:  # a nested entry that lacks a field
        raise ValueError(f"{kind.__name__} needs {', '.join(allowed)}; given: {', '.join(values) or 'none'}") from error


def _convert(value: Any, hint: Any, name: str) -> Any:
    """Return ``value`` as the annotated type; lists become tuples, whole numbers floats where floats are wanted."""
    entries = get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, {})
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        types = entries[:1] * len(value) if entries[-1] is Ellipsis else entries
        if len(types) == len(value):
            return tuple(_convert(entry, wanted, name) for entry, wanted in zip(value, types, strict=True))
    if get_origin(hint) is dict and isinstance(value, Mapping):
        return {_convert(key, entries[0], name): _convert(entry, entries[1], name) for key, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not entries and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{name} must be {hint if entries else hint.__name__}, not {value!r}")
