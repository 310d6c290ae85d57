"""How an engine may fail before it is replaced, by which one, and how all that is said."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from irvf.engines.engine import EngineError
from irvf.engines.factory import ENGINE_NAMES

FALLBACK_ORDER = ("openvino", "onnxruntime", "torch")
"""Engines that need no GPU and no minutes of building, fastest on a CPU first."""


@dataclass(frozen=True)
class Patience:
    """How long, and how often, something may fail.

    Attributes:
        timeout: seconds that one inference may take before it counts as hung; 0 for any time.
        make_timeout: seconds that a new pipeline may take to be made and warmed up.
        errors: so many in a row are a failure.
        error_time: seconds without a success between two errors that are a failure, however few they are.
        relapse: seconds after a restart within which the next failure is one of the engine, not of chance.
        first_pause: seconds before all engines are tried again after none could be made; it doubles each time.
        longest_pause: to which it grows.
        hung_threads: that may be left behind; with so many no further engine is made until one of them returns.
    """

    timeout: float = 5.0
    make_timeout: float = 30.0
    errors: int = 3
    error_time: float = 1.0
    relapse: float = 60.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    hung_threads: int = 5


@dataclass(frozen=True)
class Event:
    """What happened.

    Attributes:
        kind: ``hung`` or ``failing`` (the engine), ``not_made`` (a new one), ``restarted``, ``fallback`` (to another
            engine), ``recovered`` (by itself), ``none_left`` (none could be made), ``abandoned`` (too many threads).
        message: for the log.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Health:
    """How the engine does.

    Attributes:
        state: ``running``, ``restarting`` or ``failed``.
        message: empty while the configured engine runs and no thread is left behind.
        is_error: whether a person is needed; a message without it is a warning.
        engine: name of the one that runs, or ran last.
        hung_threads: left behind at this moment.
    """

    state: str
    message: str
    is_error: bool
    engine: str
    hung_threads: int


class SupervisionError(EngineError):
    """An item was not processed.

    Attributes:
        reason: to count it under: ``engine.hung``, ``engine.restarting``, ``engine.failed`` or ``engine.closed``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def fallback_engines(configured: str, description: str) -> tuple[str, ...]:
    """Return the configured engine and those that can stand in for it here, in the order in which they are tried.

    Args:
        configured: one of :data:`irvf.engines.factory.ENGINE_NAMES`.
        description: of the engine that runs, which begins with its name: what ``auto`` chose is not tried twice. What
            runs on none of the engines has nothing to fall back to.
    """
    running = description.partition(" ")[0]
    if running not in ENGINE_NAMES:
        return (configured,)
    others = (name for name in FALLBACK_ORDER if name not in (configured, running) and importlib.util.find_spec(name))
    return (configured, *others)
