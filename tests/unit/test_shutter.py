"""A thermal stream that is frozen, and those that only look so."""

from __future__ import annotations

import numpy as np
import pytest

from irvf.frames import Frame
from irvf.imaging.shutter import ShutterState, ShutterWatch

SECOND = 1_000_000_000


def thermal_image(seed, dtype=np.uint16):
    return np.random.default_rng(seed).normal(29000, 5, (120, 160)).astype(dtype)


def rgb_image(seed):
    return np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def watch(shutter, thermals, rgbs, rate=30.0, start=0.0):
    """Show the images of these seeds, one pair after the other; return the states."""
    encodings = {"u": "mono16", "f": "32FC1"}
    states = []
    for k, (thermal, rgb) in enumerate(zip(thermals, rgbs, strict=True)):
        stamp = round((start + k / rate) * SECOND)
        image = thermal if isinstance(thermal, np.ndarray) else thermal_image(thermal)
        states.append(
            shutter(Frame(image, encodings[image.dtype.kind], stamp), Frame(rgb_image(rgb), "rgb8", stamp + 5))
        )
    return states


def test_a_live_stream_is_not_frozen():
    assert set(watch(ShutterWatch(), range(60), range(60))) == {ShutterState()}


@pytest.mark.parametrize("rate", [9, 30, 60])
@pytest.mark.parametrize("after", [0.3, 0.5, 1.0])
def test_a_repeated_image_counts_as_frozen_after_the_time_that_is_set(rate, after):
    live, count = 5, round(2 * rate)
    states = watch(ShutterWatch(after), [*range(live), *[live] * count], range(live + count), rate)
    frozen = [state.frozen for state in states]
    first = frozen.index(True)
    assert (first - live) / rate == pytest.approx(after, abs=1 / rate)
    assert all(frozen[first:])
    assert states[first].reason == "repeated"
    assert states[-1].since == pytest.approx((count - 1) / rate)


def test_the_first_image_after_the_freeze_says_so_once():
    states = watch(ShutterWatch(), [*[0] * 30, 1, 2, 3], range(33))
    assert states[29].frozen
    assert [state.resumed for state in states[29:]] == [False, True, False, False]
    assert not any(state.frozen for state in states[30:])


def test_a_short_repetition_is_no_freeze_and_has_no_end():
    states = watch(ShutterWatch(), [*range(5), *[5] * 8, *range(6, 20)], range(27))
    assert not any(state.frozen or state.resumed for state in states)


@pytest.mark.parametrize("rate", [30, 60])
def test_a_slow_sensor_that_is_published_faster_is_not_frozen(rate):
    count = 3 * rate
    thermals = [int(k / rate * 9) for k in range(count)]  # 9 images a second
    states = watch(ShutterWatch(0.2), thermals, range(count), rate)
    assert not any(state.frozen for state in states)


def test_a_still_picture_on_both_topics_is_still_and_not_frozen():
    states = watch(ShutterWatch(), [7] * 60, [7] * 60)
    assert not any(state.frozen for state in states)
    assert states[-1].reason == "still"
    # Neither when the RGB image was another one in the first pair.
    assert not any(state.frozen for state in watch(ShutterWatch(), [7] * 60, [6, *[7] * 59]))


def test_a_scene_at_rest_whose_noise_is_just_seen_is_not_frozen():
    # 8 bits after the camera's AGC: from frame to frame, a single pixel differs by one level.
    still = np.random.default_rng(0).integers(0, 250, (480, 640), dtype=np.uint16)
    images = []
    for k in range(40):
        images.append(still.copy())
        images[-1][0, 0] += k % 2
    assert not any(state.frozen for state in watch(ShutterWatch(), images, range(40)))


@pytest.mark.parametrize("value", [0, 29000, 65535])
def test_the_closed_shutter_itself_is_noticed_sooner_than_a_repetition(value):
    blank = np.full((120, 160), value, np.uint16)
    drifting = [blank + (k % 2 if value < 65535 else 0) for k in range(15)]
    states = watch(ShutterWatch(), [0, 1, *drifting, 2, 3], range(19))  # 30 images a second
    frozen = [state.frozen for state in states]
    assert frozen.index(True) == 2 + 6  # 0.2 s after the first of them
    assert frozen == [False] * 8 + [True] * 9 + [False] * 2
    assert states[8].reason == "blank"
    assert [state.resumed for state in states].index(True) == 17


def test_a_picture_of_one_value_is_none():
    assert not watch(ShutterWatch(), [np.full((120, 160), 7, np.uint16)], range(1))[0].frozen


def test_missing_pixels_do_not_hide_a_freeze():
    image = thermal_image(0, np.float32)
    image[5, 5] = np.nan
    states = watch(ShutterWatch(), [image] * 30, range(30))
    assert states[-1].frozen


def test_the_same_message_again_is_no_freeze():
    # A slow thermal stream: one message is paired with several RGB images.
    shutter, thermal = ShutterWatch(), Frame(thermal_image(0), "mono16", SECOND)
    states = [shutter(thermal, Frame(rgb_image(k), "rgb8", SECOND + k * SECOND // 5)) for k in range(10)]
    assert not any(state.frozen for state in states)


def test_a_loop_of_the_stamps_begins_anew():
    shutter = ShutterWatch()
    watch(shutter, [0] * 10, range(10), start=100.0)
    states = watch(shutter, [0] * 10, range(10), start=5.0)
    assert not any(state.frozen for state in states)
    assert states[-1].since == pytest.approx(0.3)


def test_another_size_or_type_is_another_image():
    shutter = ShutterWatch()
    watch(shutter, [0] * 20, range(20))
    smaller = thermal_image(0)[:100].copy()
    assert watch(shutter, [smaller], [50], start=20 / 30)[0] == ShutterState(resumed=True)


def test_zero_switches_it_off():
    assert set(watch(ShutterWatch(0), [0] * 60, range(60))) == {ShutterState()}


def test_the_memory_of_messages_is_not_kept():
    shutter = ShutterWatch()
    memory, rgb = thermal_image(0), rgb_image(0)
    shutter(Frame(memory, "mono16", 0), Frame(rgb, "rgb8", 0))
    memory += 1  # a message's memory that is used again for another image
    rgb += 1
    states = watch(shutter, [0] * 20, range(20), start=0.1)
    assert states[-1].frozen  # it was compared with what the first image had held
    assert states[-1].since == pytest.approx(0.1 + 19 / 30)


@pytest.mark.parametrize("wrong", [-1.0, 0.1, float("nan"), float("inf")])
def test_times_that_would_take_slow_sensors_for_frozen_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{wrong} s"):
        ShutterWatch(wrong)
