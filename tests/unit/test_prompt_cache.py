"""Kept prompts: made once, bounded, and never in the way of a thread that has its own already."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from irvf.instruction.prompt import Prompt
from irvf.instruction.prompt_cache import KEPT, PromptCache


class Maker:
    def __init__(self):
        self.made = []

    def __call__(self, text, task):
        self.made.append((text, task))
        if text == "broken":
            raise ValueError("no tokens")
        return Prompt("text", np.full((6, 576), len(self.made), np.float32))


@pytest.fixture
def maker():
    return Maker()


def test_a_prompt_is_made_once(maker):
    cache = PromptCache(maker)
    first = cache("find cars", "detection")
    assert cache("find cars", "detection") is first
    assert cache("find cars", "viewing") is not first  # the task may decide, too
    assert maker.made == [("find cars", "detection"), ("find cars", "viewing")]


def test_those_used_last_are_kept(maker):
    cache = PromptCache(maker)
    current = cache("in force", "viewing")
    for number in range(3 * KEPT):
        cache(str(number), "viewing")
        assert cache("in force", "viewing") is current
    known = len(maker.made)
    cache(str(3 * KEPT - 1), "viewing")
    assert len(maker.made) == known
    cache("0", "viewing")  # long gone
    assert len(maker.made) == known + 1


def test_what_cannot_be_made_is_said_each_time_and_nothing_is_kept(maker):
    cache = PromptCache(maker)
    for _ in range(2):
        with pytest.raises(ValueError, match="no tokens"):
            cache("broken", "viewing")
    assert cache("viewing", "viewing").source == "text"


def test_a_frame_does_not_wait_while_a_new_instruction_is_embedded():
    embedding, finish = threading.Event(), threading.Event()

    def make(text, _task):
        if text == "new":
            embedding.set()
            assert finish.wait(20)
        return Prompt("text", np.zeros((6, 576), np.float32))

    cache = PromptCache(make)
    old = cache("old", "viewing")
    with ThreadPoolExecutor(2) as executor:
        new = executor.submit(cache, "new", "viewing")
        assert embedding.wait(20)
        try:
            assert executor.submit(cache, "old", "viewing").result(5) is old
        finally:
            finish.set()
        assert cache("new", "viewing") is new.result(5)


def test_threads_that_ask_at_once_get_the_same_prompt(maker):
    cache = PromptCache(maker)
    with ThreadPoolExecutor(8) as executor:
        prompts = list(executor.map(lambda number: cache(str(number % 4), "viewing"), range(400)))
    assert len({id(prompt) for prompt in prompts}) == 4
