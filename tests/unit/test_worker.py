import logging
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvf_fusion_node.worker import InferenceThread, LatestMailbox, MailboxClosedError

LIMIT = 10.0  # seconds; reached only when a test fails


class Ledger:
    """What became of the items, by fate."""

    def __init__(self):
        self.processed = []
        self.errored = []
        self.superseded = []
        self.discarded = []

    def all(self):
        return self.processed + self.errored + self.superseded + self.discarded

    def thread(self, process, **options):
        def work(item):
            process(item)
            self.processed.append(item)

        return InferenceThread(
            work,
            on_error=lambda item, _: self.errored.append(item),
            on_superseded=self.superseded.append,
            on_discarded=self.discarded.append,
            **options,
        )


def eventually(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.001)


def test_mailbox_hands_out_the_newest_item_once():
    mailbox = LatestMailbox()
    assert mailbox.put("first") is None
    assert mailbox.put("second") == "first"
    assert mailbox.take() == "second"
    assert mailbox.take(timeout=0.0) is None
    assert mailbox.put("third") is None


def test_mailbox_take_wakes_for_an_item_long_before_its_timeout():
    mailbox = LatestMailbox()
    threading.Timer(0.05, mailbox.put, args=("item",)).start()
    begin = time.monotonic()
    assert mailbox.take(timeout=LIMIT) == "item"
    assert time.monotonic() - begin < LIMIT / 2


def test_mailbox_take_gives_up_after_its_timeout():
    begin = time.monotonic()
    assert LatestMailbox().take(timeout=0.05) is None
    assert time.monotonic() - begin >= 0.05


def test_closed_mailbox_returns_what_is_left_wakes_takers_and_refuses_items():
    mailbox = LatestMailbox()
    taker = threading.Thread(target=mailbox.take)
    taker.start()
    assert mailbox.close() is None
    taker.join(LIMIT)
    assert not taker.is_alive()
    with pytest.raises(MailboxClosedError):
        mailbox.put("late")

    mailbox = LatestMailbox()
    mailbox.put("left")
    assert mailbox.close() == "left"
    assert mailbox.close() is None
    assert mailbox.take() is None


def test_while_one_item_is_processed_only_the_newest_of_the_others_is_kept():
    ledger, busy, release = Ledger(), threading.Event(), threading.Event()

    def process(item):
        busy.set()
        assert release.wait(LIMIT)

    worker = ledger.thread(process)
    worker.start()
    worker.put(1)
    assert busy.wait(LIMIT)
    for item in (2, 3, 4):
        worker.put(item)
    release.set()
    eventually(lambda: ledger.processed == [1, 4])
    assert ledger.superseded == [2, 3]
    assert worker.stop(LIMIT)


def test_an_error_is_reported_with_its_item_and_the_next_item_is_processed():
    errors, processed = [], []

    def process(item):
        if item == "bad":
            raise ValueError("cannot")
        processed.append(item)

    worker = InferenceThread(
        process,
        on_error=lambda item, error: errors.append((item, str(error))),
        on_superseded=lambda item: pytest.fail(f"{item} superseded"),
        on_discarded=lambda item: pytest.fail(f"{item} discarded"),
    )
    worker.start()
    worker.put("bad")
    eventually(lambda: errors == [("bad", "cannot")])
    worker.put("good")
    eventually(lambda: processed == ["good"])
    assert worker.stop(LIMIT)


def test_an_error_in_the_error_handler_is_logged_and_the_next_item_is_processed(caplog):
    processed = []

    def process(item):
        if item == "bad":
            raise ValueError("cannot")
        processed.append(item)

    def on_error(item, error):
        raise RuntimeError("the handler is broken")

    worker = InferenceThread(process, on_error=on_error, on_superseded=print, on_discarded=print)
    worker.start()
    with caplog.at_level(logging.ERROR):
        worker.put("bad")
        eventually(lambda: "the handler is broken" in caplog.text)
    worker.put("good")
    eventually(lambda: processed == ["good"])
    assert worker.stop(LIMIT)


def test_stop_lets_the_current_item_finish_and_discards_the_waiting_one():
    ledger, busy = Ledger(), threading.Event()

    def process(item):
        busy.set()
        time.sleep(0.05)

    worker = ledger.thread(process)
    worker.start()
    worker.put("current")
    assert busy.wait(LIMIT)
    worker.put("waiting")
    assert worker.stop(LIMIT)
    assert worker.stop(LIMIT)
    worker.put("late")
    assert ledger.processed == ["current"]
    assert ledger.discarded == ["waiting", "late"]


def test_stop_returns_within_its_limit_when_the_work_hangs():
    ledger, busy, release = Ledger(), threading.Event(), threading.Event()

    def process(item):
        busy.set()
        assert release.wait(LIMIT)

    worker = ledger.thread(process)
    worker.start()
    worker.put("slow")
    assert busy.wait(LIMIT)
    begin = time.monotonic()
    assert not worker.stop(timeout=0.05)
    assert time.monotonic() - begin < LIMIT / 2
    release.set()
    assert worker.stop(LIMIT)
    assert ledger.processed == ["slow"]


def test_a_thread_that_was_never_started_can_be_stopped():
    ledger = Ledger()
    worker = ledger.thread(print)
    worker.put("waiting")
    assert worker.stop(LIMIT)
    assert ledger.discarded == ["waiting"]


def test_the_thread_bears_its_name():
    names = []
    worker = Ledger().thread(lambda _: names.append(threading.current_thread().name), name="fusion")
    worker.start()
    worker.put(1)
    eventually(lambda: names == ["fusion"])
    assert worker.stop(LIMIT)


def test_an_idle_thread_uses_no_processor_time():
    worker = Ledger().thread(print)
    worker.start()
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    assert worker.stop(LIMIT)


@settings(max_examples=30, deadline=None)
@given(
    producers=st.integers(1, 3),
    items=st.integers(1, 60),
    work=st.sampled_from([0.0, 0.0001, 0.001]),
    failing=st.integers(2, 7),
    stop_after=st.floats(0.0, 0.02),
)
def test_every_item_ends_in_exactly_one_way(producers, items, work, failing, stop_after):
    ledger = Ledger()

    def process(item):
        time.sleep(work)
        if item % failing == 0:
            raise ValueError(item)

    worker = ledger.thread(process)
    worker.start()
    # A tiny switch interval makes the threads interleave at every possible place.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        feeding = [
            threading.Thread(target=lambda first=n: [worker.put(i) for i in range(first, items, producers)])
            for n in range(producers)
        ]
        for thread in feeding:
            thread.start()
        time.sleep(stop_after)
        assert worker.stop(LIMIT)
        for thread in feeding:
            thread.join(LIMIT)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(ledger.all()) == list(range(items))
    assert all(item % failing == 0 for item in ledger.errored)
    assert all(item % failing != 0 for item in ledger.processed)


def test_a_pause_begins_when_an_item_is_finished():
    ledger = Ledger()
    gate = threading.Event()
    thread = ledger.thread(lambda _: gate.wait(LIMIT))
    thread.start()
    thread.put("first")
    gate.set()
    eventually(lambda: ledger.processed == ["first"])
    gate.clear()
    thread.put("second")
    paused = []
    waiting = threading.Thread(target=lambda: (thread.wait_for_pause(LIMIT), paused.append(list(ledger.processed))))
    waiting.start()
    time.sleep(0.05)
    assert not paused
    gate.set()
    waiting.join(LIMIT)
    assert paused == [["first", "second"]]
    thread.stop(LIMIT)


def test_without_work_there_is_nothing_to_wait_for():
    thread = Ledger().thread(lambda _: None)
    thread.start()
    begin = time.monotonic()
    thread.wait_for_pause(0.2)
    assert time.monotonic() - begin < 0.1
    thread.stop(LIMIT)


def test_a_pause_is_waited_for_no_longer_than_said():
    ledger = Ledger()
    gate = threading.Event()
    thread = ledger.thread(lambda item: item == "slow" and gate.wait(LIMIT))
    thread.start()
    thread.put("fast")
    eventually(lambda: ledger.processed == ["fast"])
    thread.put("slow")
    begin = time.monotonic()
    thread.wait_for_pause(0.2)
    assert 0.15 < time.monotonic() - begin < LIMIT / 2
    gate.set()
    thread.stop(LIMIT)
