"""Prompts that were made are kept: a frame takes its own from here and does not wait for the text encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from irvf.instruction.prompt import Prompt

KEPT = 32


class PromptCache:
    """Makes prompts, each once, and keeps those that were used last. May be called from several threads.

    Args:
        make: makes the prompt of a text and the name of its task; must bear several threads.
        kept: number of prompts that are kept.
    """

    def __init__(self, make: Callable[[str, str], Prompt], kept: int = KEPT) -> None:
        self._make = make
        self._kept = kept
        self._lock = threading.Lock()
        self._prompts: OrderedDict[tuple[str, str], Prompt] = OrderedDict()

    def __call__(self, text: str, task: str) -> Prompt:
        """Return the prompt of a text; what ``make`` raises goes on, and nothing is kept."""
        key = (text, task)
        with self._lock:
            if key in self._prompts:
                self._prompts.move_to_end(key)
                return self._prompts[key]
        # Without the lock: the thread that fuses must not wait while another one embeds a new instruction.
        prompt = self._make(text, task)
        with self._lock:
            prompt = self._prompts.setdefault(key, prompt)
            self._prompts.move_to_end(key)
            while len(self._prompts) > self._kept:
                self._prompts.popitem(last=False)
        return prompt
