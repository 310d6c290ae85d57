"""Boxes between two looks of the detector: where constant velocity puts them, and when nothing is carried."""

import numpy as np
import pytest

from irvf.frames import Box, Detection
from irvf.perception.tracking import MAX_CARRY, BoxTracker, SparseDetection, overlap

SIZE = (480, 640)
FRAME = 33_333_333
"""Nanoseconds between two frames."""


def person(x, y=100.0, width=20.0, height=40.0, label="person", score=0.8):
    return Detection(Box(x, y, x + width, y + height), label, score)


def corners(detection):
    box = detection.box
    return np.array([box.x_min, box.y_min, box.x_max, box.y_max])


def test_what_moves_evenly_is_where_it_would_be():
    tracker = BoxTracker()
    for step in range(4):
        tracker.update((person(50 + 3.0 * 2 * step),), 2 * step * FRAME)
    (carried,) = tracker.carry(7 * FRAME, SIZE)
    np.testing.assert_allclose(corners(carried), corners(person(50 + 3.0 * 7)), atol=1e-3)
    assert (carried.label, carried.score) == ("person", 0.8)


def test_what_comes_nearer_grows():
    tracker = BoxTracker()
    for step in range(3):
        tracker.update((person(100 - step, 100 - step, 20 + 2 * step, 40 + 2 * step),), step * FRAME)
    (carried,) = tracker.carry(3 * FRAME, SIZE)
    np.testing.assert_allclose(corners(carried), [97, 97, 123, 143], atol=1e-3)


def test_what_was_seen_once_stays_where_it_is():
    tracker = BoxTracker()
    tracker.update((person(50),), FRAME)
    assert tracker.carry(2 * FRAME, SIZE) == (person(50),)


def test_two_that_cross_keep_their_ways():
    tracker = BoxTracker()
    for step in range(5):
        tracker.update((person(100 + 4 * step), person(112 - 4 * step, y=125)), step * FRAME)
    carried = sorted(tracker.carry(5 * FRAME, SIZE), key=lambda found: found.box.y_min)
    np.testing.assert_allclose([found.box.x_min for found in carried], [120, 92], atol=1e-3)


def test_another_class_at_the_same_place_is_another_object():
    tracker = BoxTracker()
    tracker.update((person(50),), 0)
    tracker.update((person(60, label="car"),), FRAME)
    (carried,) = tracker.carry(2 * FRAME, SIZE)
    assert corners(carried)[0] == 60  # without a velocity: nothing is known of the car


def test_what_is_not_found_again_is_gone():
    tracker = BoxTracker()
    tracker.update((person(50), person(200)), 0)
    tracker.update((person(50),), FRAME)
    assert len(tracker.carry(2 * FRAME, SIZE)) == 1


def test_what_leaves_the_image_ends_at_its_border_and_then():
    tracker = BoxTracker()
    for step in range(2):
        tracker.update((person(600 + 12.0 * step),), step * FRAME)
    (carried,) = tracker.carry(2 * FRAME, SIZE)
    assert carried.box.x_max == 640
    assert carried.box.x_min == pytest.approx(624, abs=1e-3)
    assert tracker.carry(4 * FRAME, SIZE) == ()


@pytest.mark.parametrize("stamp", [-FRAME, round((MAX_CARRY + 0.1) * 1e9)], ids=["before", "long after"])
def test_nothing_is_carried_far(stamp):
    tracker = BoxTracker()
    tracker.update((person(50),), 0)
    assert tracker.carry(stamp, SIZE) is None


def test_a_motion_over_a_long_gap_is_none():
    tracker = BoxTracker()
    tracker.update((person(50),), 0)
    late = round((MAX_CARRY + 1) * 1e9)
    tracker.update((person(60),), late)
    assert tracker.carry(late + FRAME, SIZE) == (person(60),)


@pytest.mark.parametrize(("every", "looks"), [(1, 12), (2, 6), (3, 4), (5, 3)])
def test_the_detector_sees_every_nth_frame(every, looks):
    sparse, seen = SparseDetection(), 0
    for step in range(12):
        if sparse.carry(every, step * FRAME, SIZE, "people") is None:
            seen += 1
            sparse.found((person(50),), step * FRAME, "people")
    assert seen == looks


def test_the_detector_looks_at_once_when_it_looks_for_something_else():
    sparse = SparseDetection()
    sparse.found((person(50),), 0, "people")
    assert sparse.carry(5, FRAME, SIZE, "people") == (person(50),)
    assert sparse.carry(5, 2 * FRAME, SIZE, "cars") is None


def test_what_was_looked_for_before_moves_nothing():
    sparse = SparseDetection()
    sparse.found((person(50),), 0, "people")
    sparse.found((person(60),), FRAME, "all")
    assert sparse.carry(5, 2 * FRAME, SIZE, "all") == (person(60),)


def test_overlap_of_boxes():
    square = np.array([0.0, 0, 2, 2])
    assert overlap(square, np.array([1.0, 0, 3, 2])) == pytest.approx(2 / 6)
    assert overlap(square, square) == 1
    assert overlap(square, np.array([5.0, 5, 6, 6])) == 0
    assert overlap(np.zeros(4), np.zeros(4)) == 0
