"""What a fault is: how it is injected, and what the node's diagnostics must show of it afterwards."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

FAULTS = []
CLEAN_LIMIT = 1.0
"""Seconds after the end of a fault within which correct output must have come again."""


@dataclass
class Injected:
    """What was done in an episode.

    Attributes:
        count: of faults.
        expected: counter -> by how much it must have grown, exactly; those of streams as ``thermal dropped.no_stamp``.
        at_least: counter -> by how much it must have grown at least.
        together: counters whose growth together shows the faults; the report says how many of them.
        is_lossless: whether every message that was sent must have been received.
        problems: what went wrong meanwhile.
        note: what else is to be said.
    """

    count: int
    expected: Counter = field(default_factory=Counter)
    at_least: Counter = field(default_factory=Counter)
    together: tuple = ()
    is_lossless: bool = True
    problems: list = field(default_factory=list)
    note: str = ""


@dataclass
class Fault:
    """A kind of fault.

    Attributes:
        name: in the report.
        inject: does it, and returns once it has ended.
        limit: seconds until correct output must have come again.
        needs: name of a parameter without which the node has nothing to inject this into; empty for none.
        most: how often it may come in a run.
    """

    name: str
    inject: Callable
    limit: float = CLEAN_LIMIT
    needs: str = ""
    most: int = 10_000


def fault(name, **options):
    def register(inject):
        FAULTS.append(Fault(name, inject, **options))
        return inject

    return register


class Trial:
    """One episode: the node, chance, and how long it is to last."""

    def __init__(self, node, rng, seconds):
        self.node, self.rng, self.seconds = node, rng, seconds
        self.cameras = node.cameras

    def through(self, change, seconds=None):
        """Let all frames go through a function for the time of the episode; return what was sent with which fault."""
        before = Counter(self.cameras.faulty)
        self.cameras.fault = change
        try:
            self.sleep(self.seconds if seconds is None else seconds)
        finally:
            self.cameras.fault = None
        return self.cameras.faulty - before

    def sleep(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.node.check_alive()
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))
