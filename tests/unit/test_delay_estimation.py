import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from moving_camera import MovingRig, hand_held

from irvf.frames import Frame
from irvf.imaging.errors import FrameError
from irvf_fusion_node.delay_estimation import SHORTEST, DelayEstimation
from irvf_fusion_node.pairing import Stream

PICTURE = Frame(np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8), "mono8")


class Answers(list):
    """What the estimation has answered; the test waits for the first."""

    def __init__(self):
        super().__init__()
        self.came = threading.Event()

    def __call__(self, estimate):
        self.append(estimate)
        self.came.set()


@pytest.fixture
def short(monkeypatch):
    """An estimation need not last: what it is given counts."""
    monkeypatch.setattr("irvf_fusion_node.delay_estimation.SHORTEST", 0.1)


def give_all(estimation, streams, apart):
    """Offer all frames as a bag that is played fast does, in the order of their capture."""
    order = [(frame.stamp, stream, frame) for stream, frames in streams.items() for frame in frames]
    order.sort(key=lambda entry: entry[0] - apart * 10**9 * (entry[1] is Stream.THERMAL))
    for stamp, stream, frame in order:
        while True:
            before = sum(estimation.skipped.values())
            estimation.offer(stream, frame, stamp)
            if sum(estimation.skipped.values()) == before:
                break
            time.sleep(0.005)  # a camera would not wait; here every frame shall be seen


def test_the_delay_of_streams_that_pass_by_is_found():
    apart = 300  # seconds between the clocks
    thermal, rgb = MovingRig().frames(hand_held(5, 6), 6, delay=-0.035, hz=(9, 15))
    thermal = [replace(frame, stamp=frame.stamp + apart * 10**9) for frame in thermal]
    answers = Answers()
    estimation = DelayEstimation(SHORTEST, lambda frame: frame, answers)
    estimation.start()
    give_all(estimation, {Stream.THERMAL: thermal, Stream.RGB: rgb}, apart)
    assert answers.came.wait(60)
    (estimate,) = answers
    assert estimate.accepted, estimate.reason
    assert estimate.delay == pytest.approx(apart - 0.035, abs=0.005)


def test_a_stream_that_does_not_come_is_named(short):
    answers = Answers()
    estimation = DelayEstimation(0.3, lambda frame: frame, answers)
    estimation.start()
    estimation.offer(Stream.RGB, PICTURE, 1)
    assert answers.came.wait(5)
    (estimate,) = answers
    assert not estimate.accepted
    assert "no thermal frames" in estimate.reason
    assert "rgb" not in estimate.reason


def test_stopping_answers_once_and_at_once():
    answers = Answers()
    estimation = DelayEstimation(30, lambda frame: frame, answers)
    estimation.start()
    assert estimation.running
    assert estimation.stop(5)
    assert not estimation.running
    assert ["stopped" in estimate.reason for estimate in answers] == [True]
    assert estimation.stop(5)
    estimation.offer(Stream.RGB, PICTURE, 1)
    assert len(answers) == 1


def test_offers_never_block_and_what_does_not_fit_is_counted(short):
    held = threading.Event()

    def slowly(frame):
        held.wait(10)
        return frame

    answers = Answers()
    estimation = DelayEstimation(0.5, slowly, answers)
    estimation.start()
    began = time.monotonic()
    for number in range(1, 201):
        estimation.offer(Stream.RGB, PICTURE, number * 33_000_000)
    assert time.monotonic() - began < 1
    assert 200 - 10 <= estimation.skipped[Stream.RGB] <= 200 - 8
    held.set()
    assert answers.came.wait(5)


def test_frames_that_cannot_be_read_are_skipped_and_other_errors_are_the_answer(short):
    def unreadable(_):
        raise FrameError("encoding", "unknown")

    answers = Answers()
    estimation = DelayEstimation(0.3, unreadable, answers)
    estimation.start()
    estimation.offer(Stream.RGB, PICTURE, 1)
    assert answers.came.wait(5)
    assert estimation.skipped == {Stream.RGB: 1}
    assert not answers[0].accepted

    answers = Answers()
    estimation = DelayEstimation(30, lambda _: 1 / 0, answers)
    estimation.start()
    estimation.offer(Stream.RGB, PICTURE, 1)
    assert answers.came.wait(5)
    assert "division by zero" in answers[0].reason


@pytest.mark.parametrize("seconds", [0, SHORTEST - 1, 1000, float("nan")])
def test_a_time_out_of_range_is_refused(seconds):
    with pytest.raises(ValueError, match="it takes"):
        DelayEstimation(seconds, lambda frame: frame, lambda _: None)
