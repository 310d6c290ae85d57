"""Paths that a user's configuration names, resolved and checked before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

MAX_LENGTH = 4096
"""Longest path that Linux takes, in bytes."""
MAX_CONFIG_BYTES = 1 << 20
"""Most bytes of a file that a person writes, as tasks or a calibration: 1 MiB."""

Kind = Literal["file", "folder", "new folder"]


class PathError(ValueError):
    """A path that cannot be used; says which parameter named it, and what to do."""


def checked_path(text: str, name: str, must_be: Kind, max_bytes: int | None = None) -> Path:
    """Resolve a path and see that it is what is wanted.

    Links are followed; what they lead to is checked. A device, a pipe or a socket is no file: to read one may never
    end.

    Args:
        text: as the user wrote it; ``~`` is the home of the process, a relative path begins at its working directory.
        name: of the parameter or option, for the message.
        must_be: ``file`` and ``folder`` must exist and be readable; a ``new folder`` may be missing, if the nearest
            folder above it can be written to.
        max_bytes: most bytes of a file; None for any number.

    Returns:
        The absolute path without links.

    Raises:
        PathError: for anything else.
    """
    if not text or "\0" in text or len(os.fsencode(text)) > MAX_LENGTH:
        raise PathError(f"{name} is {text[:80]!r}, which is no path: it is empty, holds a zero byte, or is too long")
    try:
        path = Path(text).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # the latter of links in a circle, and of a ~ that has no home
        raise PathError(f"{name} is {text[:80]!r}, which cannot be resolved: {error}") from error
    try:
        _check(path, name, must_be, max_bytes)
    except OSError as error:
        raise PathError(f"{name}: {path} cannot be looked at: {error.strerror or error}") from error
    return path


def _check(path: Path, name: str, must_be: Kind, max_bytes: int | None) -> None:
    if must_be == "new folder":
        _check_new_folder(path, name)
        return
    if not path.exists():
        raise PathError(f"{name}: there is no {must_be} {path}")
    if must_be == "folder":
        if not path.is_dir():
            raise PathError(f"{name}: {path} is no folder")
        if not os.access(path, os.R_OK | os.X_OK):
            raise PathError(f"{name}: folder {path} cannot be read by this user; change its rights or its owner")
        return
    if not path.is_file():
        raise PathError(f"{name}: {path} is no regular file, but {'a folder' if path.is_dir() else 'a device or pipe'}")
    if not os.access(path, os.R_OK):
        raise PathError(f"{name}: {path} cannot be read by this user; change its rights or its owner")
    size = path.stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise PathError(f"{name}: {path} has {size} bytes; at most {max_bytes} are read")


def _check_new_folder(path: Path, name: str) -> None:
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir():
        raise PathError(f"{name}: {nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PathError(f"{name}: nothing can be written into {nearest} by this user; name another folder")
