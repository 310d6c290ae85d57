"""Built engines kept in files: building takes minutes, loading a fraction of a second.

A file is one line of JSON, which says what the content was made for and its digest, and then the content. It counts
only if all of that is as wanted; whatever else lies there under its name is made anew and replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "IRVF_ENGINE_CACHE"
_FORMAT = "irvf engine cache 1"
_HEADER_LIMIT = 65536
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineIdentity:
    """Everything that a built engine depends on.

    Attributes:
        network: SHA-256 of the network's file.
        tensorrt: version.
        gpu: name and compute capability.
        precision: how the builder may compute.
        profile: sizes that it is built for.
    """

    network: str
    tensorrt: str
    gpu: str
    precision: str
    profile: str

    @property
    def key(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def default_cache_folder() -> Path:
    """Return what ``IRVF_ENGINE_CACHE`` names, else ``irvf/engines`` in the user's cache.

    Raises:
        RuntimeError: the user has no home.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    # By the XDG specification a relative path there is to be ignored.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (cache if cache.is_absolute() else Path("~/.cache").expanduser()) / "irvf" / "engines"


class EngineCache:
    """A folder of built engines. Several processes may use it at once; what fails here is logged, never raised.

    Args:
        folder: where they lie; None takes :func:`default_cache_folder`. It is made when something is stored.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        try:
            self.folder = folder or default_cache_folder()
        except RuntimeError as error:
            _logger.warning("no place for built engines (%s): set %s to a folder", error, FOLDER_VARIABLE)

    def path(self, name: str, identity: EngineIdentity) -> Path | None:
        """Return the file of an engine, whether it is there or not."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:100]
        return self.folder and self.folder / f"{readable}-{identity.key[:16]}.engine"

    def load(self, name: str, identity: EngineIdentity) -> bytes | None:
        """Return what was stored, None where there is nothing that can be used."""
        path = self.path(name, identity)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                header, content = file.readline(_HEADER_LIMIT), file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            _logger.warning("cannot read %s (%s); made anew", path, error)
            return None
        fault = _fault(header, content, identity)
        if fault:
            _logger.warning("%s %s; made anew", path, fault)
            return None
        return content

    def store(self, name: str, identity: EngineIdentity, content: bytes) -> Path | None:
        """Keep an engine: its file is there as a whole or not at all. Return it, None where nothing can be kept."""
        path = self.path(name, identity)
        if path is None:
            return None
        header = {"format": _FORMAT, "key": identity.key, "sha256": hashlib.sha256(content).hexdigest()}
        line = json.dumps(header | asdict(identity)).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, line + content)
        except OSError as error:
            _logger.warning(
                "cannot keep the engine %s (%s): it is built at every start. Make room, or set %s to a folder that can "
                "be written",
                path,
                error.strerror or error,
                FOLDER_VARIABLE,
            )
            return None
        return path


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file and rename: of two that do it at once, one whole file stays."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)  # whoever builds offline may be another user than the one that runs
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _fault(header: bytes, content: bytes, identity: EngineIdentity) -> str:
    """Say what is wrong with a file; empty if nothing is."""
    try:
        said: Any = json.loads(header)
    except (ValueError, RecursionError):  # the first also of bytes that are no text
        said = None
    if not isinstance(said, dict) or said.get("format") != _FORMAT:
        return "is no engine of irvf"
    if said.get("key") != identity.key:
        return "was built for something else"
    if said.get("sha256") != hashlib.sha256(content).hexdigest():
        return "is damaged"
    return ""
