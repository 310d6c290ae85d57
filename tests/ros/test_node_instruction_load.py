"""Instructions in floods, from many at once and slow to be read: neither images nor services wait for them."""

import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from bench import PERIOD, START, Observer, Spinning
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from std_msgs.msg import String

from irvf_fusion_node import configured as configured_module
from irvf_msgs.msg import FusionStatus
from irvf_msgs.srv import SetInstruction

UNDERSTOOD = ("viewing", "detect everything", "find the people", "saliency", "make it brighter", "less noise", "reset")
RUBBISH = (
    "bake a cake",
    "",
    "x" * 100_000,
    "find " * 20_000,
    "\x1b[2J\r\nERROR: fake\u202e\x00",
    "\n" * 150,
    "\U0010ffff",
)


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "instructions"]


def wait_until(condition, what, timeout=15.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def reader(monkeypatch):
    """Let the nodes of the test take ``delay`` seconds for a text, as a language model may, or raise an ``error``."""
    load = configured_module.load_interpreter
    trouble = SimpleNamespace(delay=0.0, error=None, reading=threading.Event(), on_read=lambda: None)

    def load_troubled(*arguments):
        real = load(*arguments)

        def interpret(text, *context):
            trouble.reading.set()
            trouble.on_read()
            time.sleep(trouble.delay)
            if trouble.error:
                raise trouble.error
            return real.interpret(text, *context)

        return SimpleNamespace(interpret=interpret, grammar=real.grammar)

    monkeypatch.setattr(configured_module, "load_interpreter", load_troubled)
    return trouble


@pytest.fixture
def repeat():
    """Call something with 0, 1, 2 ... at a rate, in a thread of its own, until its ``stop`` or the end of the test."""
    ended = []

    def start(what, rate):
        end, done = threading.Event(), [0]

        def run():
            begin = time.monotonic()
            while not end.is_set():
                what(done[0])
                done[0] += 1
                end.wait(max(0.0, begin + done[0] / rate - time.monotonic()))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def stop():
            end.set()
            thread.join(10)
            return done[0]

        ended.append(stop)
        return stop

    yield start
    for stop in ended:
        stop()


def pair_sender(bench):
    return lambda number: bench.send_pair(START + number * PERIOD)


@pytest.mark.parametrize("by", ["topic", "service"])
def test_a_text_that_takes_long_to_be_read_delays_neither_services_nor_images(active, reader, repeat, by):
    bench = active()
    bench.get_parameter("model")  # the clients find their services before the clock runs
    before = bench.set_instruction("viewing").sequence
    reader.delay = 3.0
    given = time.monotonic()
    call = None
    if by == "topic":
        bench.instruction.publish(String(data="saliency"))
    else:
        call = bench.client(SetInstruction, "set_instruction").call_async(SetInstruction.Request(text="saliency"))
    stop = repeat(pair_sender(bench), rate=30)
    durations = []
    while len(durations) < 20:
        begin = time.monotonic()
        bench.get_parameter("model")
        durations.append(time.monotonic() - begin)
        time.sleep(0.02)
    sent = stop()
    bench.wait_for(lambda: len(bench.heard["status"]) == sent, "a status for every pair")
    assert time.monotonic() - given < reader.delay  # all of this while the text was being read
    bench.wait_for(lambda: bench.heard["active_instruction"][-1].sequence > before, "it is read")
    assert np.median(durations) < 0.05
    assert {status.outcome for status in bench.heard["status"]} <= {FusionStatus.FUSED, FusionStatus.SUPERSEDED}
    assert {status.task for status in bench.heard["status"]} == {"viewing"}
    if call:
        bench.wait_for(call.done, "the service answers")
        assert call.result().accepted
    bench.fuse(START + 1000 * PERIOD)
    assert bench.heard["status"][-1].task == "saliency"


def test_after_a_long_reading_the_next_text_has_not_to_wait_long(active, reader):
    bench = active()
    reader.delay = 1.0
    assert bench.set_instruction("saliency").accepted
    begin = time.monotonic()
    assert bench.set_instruction("viewing").accepted
    assert time.monotonic() - begin < 2.5


def test_a_reader_that_fails_is_an_answer_and_the_next_text_is_read(active, reader):
    bench = active()
    reader.error = RuntimeError("the encoder ran away")
    for answer in (bench.set_instruction("saliency"), bench.instruct("saliency")):
        assert not answer.accepted
        assert "the encoder ran away" in answer.message
        assert (answer.task, answer.sequence) == ("viewing", 1)
    reader.error = None
    assert bench.set_instruction("saliency").accepted


@pytest.mark.parametrize(
    "texts", [UNDERSTOOD, ("find the people",), UNDERSTOOD + RUBBISH], ids=["many", "one", "rubbish"]
)
def test_a_flood_of_texts_costs_no_pair_and_its_last_text_counts(active, repeat, capfd, texts):
    bench = active()
    capfd.readouterr()

    def give(number):
        bench.instruction.publish(String(data=texts[number % len(texts)]))

    stop_pairs = repeat(pair_sender(bench), rate=30)
    stop_texts = repeat(give, rate=1000)
    time.sleep(2)
    assert stop_texts() > 200
    sent = stop_pairs()
    bench.wait_for(lambda: len(bench.heard["status"]) == sent, "a status for every pair")
    assert {status.outcome for status in bench.heard["status"]} <= {FusionStatus.FUSED, FusionStatus.SUPERSEDED}
    fused = sum(status.outcome == FusionStatus.FUSED for status in bench.heard["status"])
    assert fused > sent / 2
    last = "segment the people" if "" not in texts else "bake another cake"
    bench.instruction.publish(String(data=last))
    bench.wait_for(lambda: bench.heard["active_instruction"][-1].text == last, "the last text is answered")
    answer = bench.heard["active_instruction"][-1]
    assert answer.accepted == (last == "segment the people")
    assert answer.task == "segmentation" or "cake" in answer.message
    time.sleep(0.3)
    assert bench.heard["active_instruction"][-1].text == last  # nothing older comes after it
    parts = bench.diagnostics(lambda parts: parts["instruction"].values["last text"] == last, "the last text")
    not_read = int(parts["fusion"].values["instruction.not_read"])
    assert not_read > 0
    assert len(capfd.readouterr().err.splitlines()) <= 3  # of the refusals, one in five seconds
    assert bench.set_instruction("viewing").accepted


def test_every_service_call_in_a_flood_is_answered_with_what_it_did_itself(active, repeat):
    bench = active()
    bench.set_instruction("viewing")
    stop = repeat(lambda number: bench.instruction.publish(String(data=UNDERSTOOD[number % 7])), rate=100)
    wanted = {"find the cars": (True, "detection", ["car"]), "saliency": (True, "saliency", [])}
    answers = [(text, bench.set_instruction(text)) for text in ("find the cars", "bake a cake", "saliency") * 8]
    stop()
    read = [(text, answer) for text, answer in answers if "newer" not in answer.message]
    for text, answer in read:
        if text in wanted:
            assert (answer.accepted, answer.task, list(answer.classes)) == wanted[text]
        else:
            assert not answer.accepted
            assert "cake" in answer.message
    assert not any(answer.accepted for text, answer in answers if "newer" in answer.message)


def test_calls_of_several_clients_at_once_are_all_answered(active):
    active()
    contexts, others = [], []
    for _ in range(4):
        contexts.append(Context())
        rclpy.init(context=contexts[-1], args=[])
        others.append(Observer(contexts[-1]))
    spinning = [Spinning(other.node, context) for other, context in zip(others, contexts, strict=True)]
    try:
        clients = [other.client(SetInstruction, "set_instruction") for other in others]
        for other in others:  # has been discovered by the node
            assert other.set_instruction("viewing").accepted
        calls = []
        for number in range(8):
            calls += [client.call_async(SetInstruction.Request(text=UNDERSTOOD[number % 7])) for client in clients]
            time.sleep(0.01)
        wait_until(lambda: all(call.done() for call in calls), "every call is answered")
        assert all(call.result().accepted or "newer" in call.result().message for call in calls)
        assert any(call.result().accepted for call in calls)
    finally:
        for one, context in zip(spinning, contexts, strict=True):
            one.close()
            rclpy.shutdown(context=context)


def test_cleanup_while_service_calls_wait_answers_them(active, reader):
    bench = active()
    client = bench.client(SetInstruction, "set_instruction")
    reader.reading.clear()
    reader.delay = 1.5
    calls = [client.call_async(SetInstruction.Request(text="saliency"))]
    assert reader.reading.wait(10)
    calls += [client.call_async(SetInstruction.Request(text=text)) for text in ("detection", "brighter")]
    bench.wait_for(calls[1].done, "the second is overtaken")
    assert "newer" in calls[1].result().message
    for transition in ("deactivate", "cleanup"):
        assert bench.change_state(transition)
    bench.wait_for(lambda: all(call.done() for call in calls), "each call is answered")
    assert calls[0].result().accepted
    assert not calls[2].result().accepted
    assert reading_threads() == []
    bench.wait_for(lambda: not bench.node.count_services("/fusion/set_instruction"), "the service is given back")
    reader.delay = 0.0
    bench.activate()
    assert bench.set_instruction("saliency").accepted


def test_every_transition_in_a_flood_of_texts_and_calls(active, repeat, capfd):
    bench = active()
    bench.set_instruction("viewing")
    capfd.readouterr()
    client = bench.client(SetInstruction, "set_instruction")
    texts = UNDERSTOOD + RUBBISH[:2]

    def give(number):
        with suppress(InvalidHandle):  # once the bench is closed
            bench.instruction.publish(String(data=texts[number % len(texts)]))
            if number % 10 == 0:
                client.call_async(SetInstruction.Request(text=texts[number % len(texts)]))

    stop_pairs = repeat(pair_sender(bench), rate=30)
    stop = repeat(give, rate=500)
    for _ in range(3):
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            begin = time.monotonic()
            assert bench.change_state(transition)
            assert time.monotonic() - begin < 10
            time.sleep(0.05)
        assert len(reading_threads()) == 1
    stop_pairs()
    bench.close()  # shuts the node down in the flood, and raises what a callback raised
    stop()
    assert reading_threads() == []
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    assert "ERROR" not in shown.replace("ERROR: fake", "")


def test_texts_are_read_just_after_a_pair_has_been_fused(active, reader, repeat):
    bench = active()
    bench.set_instruction("viewing")
    since_fused = []
    reader.on_read = lambda: since_fused.append(bench.fusion.statistics.snapshot().since_fused)
    stop = repeat(pair_sender(bench), rate=12)
    bench.wait_for(lambda: bench.heard["status"], "pairs come")
    for _ in range(15):
        bench.set_instruction("viewing")
        time.sleep(0.03)
    stop()
    assert np.median(since_fused) < 0.02  # at any other time: 0.04, half a period
    time.sleep(0.3)
    begin = time.monotonic()  # without pairs there is nothing to wait for
    bench.set_instruction("viewing")
    assert time.monotonic() - begin < 1.0
