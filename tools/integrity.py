"""Tells whether a folder is still what it was when it was finished: stamps, listings, digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def digest(*parts: Any) -> str:
    """Return the SHA-256 of values; a Path counts with the bytes of the file."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else json.dumps(part, sort_keys=True).encode()
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()


def listing(folder: Path) -> dict[str, int]:
    """Return size by path of every file under ``folder``; a link counts as the file that it leads to.

    Left out is what changes by itself: byte code, lists of sources, and the stamps (names that begin with ``.irvf``).
    """
    files: dict[str, int] = {}
    pending = [str(folder)]
    while pending:
        # What another process removes meanwhile, and a link that leads nowhere, is not there.
        with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__" and not entry.name.endswith(".egg-info"):
                        pending.append(entry.path)
                elif not entry.name.startswith(".irvf"):
                    with contextlib.suppress(FileNotFoundError):
                        size = 0 if entry.is_dir() else entry.stat().st_size
                        files[os.path.relpath(entry.path, folder)] = size
    return files


def write_stamp(path: Path, stamp: dict[str, Any]) -> None:
    """Write ``stamp`` so that it is there as a whole or not at all."""
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump(stamp, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_stamp(path: Path) -> dict[str, Any]:
    """Return the stamp, empty where there is none that can be read."""
    try:
        stamp = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def first_difference(folder: Path, recorded: dict[str, int]) -> str | None:
    """Return the first recorded file that is missing or has another size; files that were added do not count."""
    found = listing(folder)
    for name, size in recorded.items():
        if found.get(name) != size:
            return f"{name} is {'missing' if name not in found else 'changed'}"
    return None
