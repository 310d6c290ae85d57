from collections import Counter
from itertools import chain
from statistics import median

import pytest
from camera_streams import (
    MAX_GAP,
    MAX_WAIT,
    MS,
    START,
    Event,
    assert_account_is_balanced,
    delayed,
    dropped,
    play,
    rgb,
    stamps,
    thermal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from irvf_fusion_node.pairing import REORDER_LIMIT, DropReason, StampPairer, Stream

# What pairs


def test_each_frame_goes_to_the_nearest_of_the_other_stream():
    pairer = StampPairer(MAX_GAP)
    frames = [
        Event(90, Stream.RGB, START + 90 * MS),
        Event(100, Stream.THERMAL, START + 100 * MS),
        Event(104, Stream.RGB, START + 104 * MS),
    ]
    emissions = play(pairer, frames)
    pairs = emissions + pairer.expire(MAX_WAIT + 104)
    assert [(pair.thermal, pair.rgb, pair.gap) for pair in pairs] == [(frames[1], frames[2], -4 * MS)]
    assert dropped(pairer, Stream.RGB) == {DropReason.NO_PARTNER: 1}
    assert dropped(pairer, Stream.THERMAL) == {}


def test_synchronous_streams_pair_completely_and_without_delay():
    pairer = StampPairer(MAX_GAP)
    emissions = play(pairer, thermal(30, 10) + delayed(rgb(30, 10), 3))
    assert len(emissions) == 300
    assert {emission.gap for emission in emissions} == {0}
    assert {emission.delay for emission in emissions} == {0}


def test_stamp_noise_delays_almost_no_pair():
    pairer = StampPairer(MAX_GAP)
    emissions = play(pairer, thermal(30, 30, jitter_ms=1) + rgb(30, 30, jitter_ms=1, transport_ms=3))
    assert len(emissions) == 900
    assert sum(emission.delay == 0 for emission in emissions) >= 0.99 * 900


@pytest.mark.parametrize("phase_ms", [0, 3, 5.5, 8, 11])
def test_slow_thermal_meets_the_nearest_of_fast_and_late_rgb(phase_ms):
    pairer = StampPairer(MAX_GAP)
    slow, fast = thermal(9, 30, phase_ms=phase_ms), rgb(30, 30, transport_ms=60)
    emissions = play(pairer, slow + fast)
    nearest = [min(abs(frame.stamp - other.stamp) for other in fast) for frame in slow]
    assert [abs(emission.gap) for emission in emissions] == nearest[: len(emissions)]
    assert len(emissions) >= len(slow) - 1  # the last one may still wait
    assert sum(emission.delay == 0 for emission in emissions) >= 0.98 * len(emissions)
    if phase_ms == 5.5:
        assert median(abs(emission.gap) for emission in emissions) <= 6 * MS


def test_noise_half_way_between_two_frames_does_not_cost_pairs():
    pairer = StampPairer(MAX_GAP)
    emissions = play(pairer, thermal(30, 30, jitter_ms=1) + rgb(30, 30, phase_ms=500 / 30, jitter_ms=1))
    assert len(emissions) >= 0.95 * 900


def test_missing_frames_never_make_the_others_meet_a_stranger():
    slow, fast = thermal(30, 30, missing=0.2), rgb(30, 30, missing=0.2)
    emissions = play(StampPairer(15 * MS), slow + fast)
    common = sorted({frame.stamp for frame in slow} & {frame.stamp for frame in fast})
    assert stamps(emissions) == [(stamp, stamp) for stamp in common]


def test_of_two_frames_about_as_near_the_one_within_max_gap_is_taken():
    # Thermal comes 17.3 ms after an RGB frame and 16.0 ms before the next.
    emissions = play(StampPairer(17 * MS), thermal(10, 3, phase_ms=17.3) + rgb(30, 3))
    assert {round(emission.gap / MS) for emission in emissions} == {-16}
    assert len(emissions) >= 29


def test_clocks_that_differ_say_so_on_both_sides():
    pairer = StampPairer(20 * MS)
    hour = 3_600_000 * MS
    assert play(pairer, [frame._replace(stamp=frame.stamp + hour) for frame in thermal(9, 10)] + rgb(30, 10)) == []
    assert dropped(pairer, Stream.THERMAL)[DropReason.GAP_TOO_LARGE] > 80
    assert dropped(pairer, Stream.RGB)[DropReason.GAP_TOO_LARGE] > 80


def test_streams_too_far_apart_say_so_on_both_sides():
    pairer = StampPairer(20 * MS)
    assert play(pairer, thermal(9, 10) + rgb(9, 10, phase_ms=40)) == []
    pairer.expire(START + 60_000 * MS)
    assert dropped(pairer, Stream.THERMAL) == dropped(pairer, Stream.RGB) == {DropReason.GAP_TOO_LARGE: 90}


def test_constant_delay_is_removed_before_pairing():
    pairer = StampPairer(5 * MS, thermal_delay=70 * MS)
    emissions = play(pairer, thermal(9, 10, phase_ms=70) + rgb(9, 10))
    assert len(emissions) == 90
    assert {emission.gap for emission in emissions} == {0}
    assert {emission.thermal.stamp - emission.rgb.stamp for emission in emissions} == {70 * MS}


# How long it takes


def test_a_nearer_frame_that_is_due_is_waited_for():
    pairer = StampPairer(MAX_GAP)
    # Thermal comes 25 ms after an RGB frame, so the next RGB frame, due 8 ms later, will be nearer.
    emissions = play(pairer, thermal(10, 3, phase_ms=25) + rgb(30, 3))
    assert {round(emission.gap / MS) for emission in emissions} == {-8}
    # The first pairs wait for the thermal period to be known. Then the nearer frame arrives last, and the pair leaves.
    assert {emission.delay for emission in emissions[4:]} == {0}


def test_a_frame_that_is_due_and_never_comes_is_not_waited_for_longer_than_max_wait():
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    play(pairer, rgb(30, 1))
    last = START + round(29e9 / 30)
    event = Event(last + 25 * MS, Stream.THERMAL, last + 25 * MS)
    assert pairer.add(event.stream, event, event.stamp, event.arrival) == []
    assert pairer.expire(last + MAX_WAIT - 1) == []
    (pair,) = pairer.expire(last + MAX_WAIT)
    assert (pair.thermal.stamp, pair.rgb.stamp) == (last + 25 * MS, last)


def test_a_frame_that_has_waited_for_its_partner_does_not_wait_anew_for_a_nearer_one():
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    frames = [Event(0, Stream.THERMAL, START), Event(MAX_WAIT - 10, Stream.RGB, START - 20 * MS)]
    assert play(pairer, frames) == []
    assert pairer.expire(MAX_WAIT - 1) == []
    assert [pair.gap for pair in pairer.expire(MAX_WAIT)] == [20 * MS]


def test_a_pair_tells_when_it_was_formed():
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    frames = [Event(0, Stream.THERMAL, START), Event(10, Stream.RGB, START + 20 * MS)]
    assert play(pairer, frames) == []
    assert [pair.formed for pair in pairer.expire(MAX_WAIT + 5)] == [MAX_WAIT + 5]


def test_a_frame_alone_is_given_up_after_max_wait():
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    play(pairer, [Event(0, Stream.THERMAL, START)])
    pairer.expire(MAX_WAIT - 1)
    assert pairer.counts(Stream.THERMAL).waiting == 1
    pairer.expire(MAX_WAIT)
    assert dropped(pairer, Stream.THERMAL) == {DropReason.NO_PARTNER: 1}
    assert pairer.counts(Stream.THERMAL).waiting == 0


# What goes wrong with streams


def test_a_stream_that_stalls_and_resumes_pairs_as_before():
    pairer = StampPairer(MAX_GAP)
    stalled = [frame for frame in thermal(30, 15) if not START + 5000 * MS <= frame.stamp < START + 10_000 * MS]
    emissions = play(pairer, stalled + rgb(30, 15))
    assert stamps(emissions) == [(frame.stamp, frame.stamp) for frame in stalled]
    assert {emission.delay for emission in emissions} == {0}
    assert dropped(pairer, Stream.RGB) == {DropReason.NO_PARTNER: 150}


def test_frames_sent_twice_are_counted_and_pair_once():
    pairer = StampPairer(MAX_GAP)
    emissions = play(pairer, thermal(30, 3) * 2 + rgb(30, 3))
    assert len(emissions) == 90
    assert dropped(pairer, Stream.THERMAL) == {DropReason.DUPLICATE_STAMP: 90}


def test_a_frame_that_arrives_after_its_successor_is_late():
    pairer = StampPairer(MAX_GAP)
    frames = thermal(30, 3)
    overtaken = frames[40]
    frames[40] = overtaken._replace(arrival=overtaken.arrival + 50 * MS)
    emissions = play(pairer, frames + rgb(30, 3))
    assert len(emissions) == 89
    assert dropped(pairer, Stream.THERMAL) == {DropReason.LATE: 1}


@pytest.mark.parametrize("stamp", [0, -1])
def test_frames_without_stamp_are_refused(stamp):
    pairer = StampPairer(MAX_GAP, thermal_delay=-1)
    assert pairer.add(Stream.THERMAL, "thermal", stamp, 0) == []
    assert pairer.add(Stream.RGB, "rgb", stamp, 0) == []
    assert dropped(pairer, Stream.THERMAL) == dropped(pairer, Stream.RGB) == {DropReason.NO_STAMP: 1}


def test_max_wait_covers_a_stream_that_is_a_second_late():
    pairer = StampPairer(MAX_GAP, max_wait=2000 * MS)
    emissions = play(pairer, thermal(30, 10) + rgb(30, 10, transport_ms=1000))
    assert len(emissions) >= 295
    assert dropped(pairer, Stream.THERMAL) == {}


def test_waiting_frames_are_bounded():
    pairer = StampPairer(MAX_GAP, max_wait=10_000 * MS, depth=5)
    play(pairer, rgb(30, 1))
    assert pairer.counts(Stream.RGB).waiting == 5
    assert dropped(pairer, Stream.RGB) == {DropReason.OVERFLOW: 25}


# Time that jumps


def looped(lap, laps, pause_ms):
    """The recording played again and again, with a pause in between."""
    length = max(frame.arrival for frame in lap) - START + round(pause_ms * MS)
    return [[frame._replace(arrival=frame.arrival + number * length) for frame in lap] for number in range(laps)]


@pytest.mark.parametrize("pause_ms", [1, 30, 1000])
@pytest.mark.parametrize(
    "lap",
    [
        pytest.param(thermal(30, 6) + rgb(30, 6), id="synchronous"),
        pytest.param(thermal(9, 6) + rgb(30, 6, transport_ms=60), id="slow-thermal-late-rgb"),
        pytest.param(thermal(9, 6, transport_ms=90) + rgb(30, 6), id="late-thermal"),
        pytest.param(thermal(30, 6) + rgb(30, 4, phase_ms=1000), id="rgb-begins-later-and-ends-earlier"),
        pytest.param(thermal(30, 0.5) + rgb(30, 0.5, transport_ms=60), id="half-a-second"),
    ],
)
def test_every_lap_of_a_looping_bag_yields_the_same_pairs(lap, pause_ms):
    pairer = StampPairer(MAX_GAP)
    emissions = play(pairer, chain(*looped(lap, 4, pause_ms)))
    by_lap = Counter(stamps(emissions))
    once = StampPairer(MAX_GAP)
    expected = stamps(play(once, lap)) + [(p.thermal.stamp, p.rgb.stamp) for p in once.expire(START * 2)]
    # The pair at the very end of the last lap may still wait.
    assert set(by_lap) == set(expected)
    assert set(by_lap.values()) <= {3, 4}
    assert list(by_lap.values()).count(3) <= 1
    assert_account_is_balanced(pairer)


def test_a_clock_that_is_set_back_pairs_at_once():
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    hour = 3_600_000 * MS
    wrong_at_first = [
        frame._replace(stamp=frame.stamp + hour) if frame.stamp < START + 1000 * MS else frame
        for frame in thermal(30, 10)
    ]
    emissions = play(pairer, wrong_at_first + rgb(30, 10))
    assert emissions[0].thermal.arrival <= START + 1000 * MS + 34 * MS
    assert len(emissions) >= 270 - 1


# What always holds


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(list(Stream)),
            st.one_of(
                st.integers(1, 40).map(lambda n: n * 7 * MS),
                st.integers(-2 * MS, 3 * REORDER_LIMIT),
                st.sampled_from([0, 1, REORDER_LIMIT, REORDER_LIMIT + 1, 3_600_000 * MS]),
            ),
            st.integers(0, 120 * MS),
        ),
        max_size=80,
    ),
    max_gap=st.integers(0, 100 * MS),
    max_wait=st.integers(1, 500 * MS),
    thermal_delay=st.integers(-50 * MS, 50 * MS),
    depth=st.integers(2, 6),
)
def test_any_input_is_accounted_for_used_once_and_paired_within_the_gap(
    events, max_gap, max_wait, thermal_delay, depth
):
    pairer = StampPairer(max_gap, max_wait=max_wait, thermal_delay=thermal_delay, depth=depth)
    now, used, given_stamps = 0, Counter(), {}
    for index, (stream, stamp, pause) in enumerate(events):
        now += pause
        given_stamps[stream, index] = stamp
        for pair in pairer.add(stream, index, stamp, now):
            used.update([(Stream.THERMAL, pair.thermal), (Stream.RGB, pair.rgb)])
            gap = given_stamps[Stream.THERMAL, pair.thermal] - thermal_delay - given_stamps[Stream.RGB, pair.rgb]
            assert pair.gap == gap
            assert abs(gap) <= max_gap
        assert_account_is_balanced(pairer)
        assert all(pairer.counts(lane).waiting <= depth for lane in Stream)
    assert set(used.values()) <= {1}
    for lane in Stream:
        assert pairer.counts(lane).received == sum(stream is lane for stream, _, _ in events)

    # Silence settles everything.
    pairer.expire(now + max_wait)
    pairer.expire(now + 2 * max_wait)
    assert all(pairer.counts(lane).waiting == 0 for lane in Stream)
    assert_account_is_balanced(pairer)


@settings(max_examples=100, deadline=None)
@given(
    thermal_period=st.integers(15, 130),
    rgb_period=st.integers(15, 130),
    phase=st.integers(0, 130),
    thermal_transport=st.integers(0, 80),
    rgb_transport=st.integers(0, 80),
)
def test_no_free_frame_is_nearer_than_the_partner(thermal_period, rgb_period, phase, thermal_transport, rgb_transport):
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    frames = {
        Stream.THERMAL: thermal(1000 / thermal_period, 5, transport_ms=thermal_transport),
        Stream.RGB: rgb(1000 / rgb_period, 5, phase_ms=phase, transport_ms=rgb_transport),
    }
    emissions = play(pairer, chain(*frames.values()))
    partner = {emission.thermal: emission.rgb for emission in emissions}
    partner |= {emission.rgb: emission.thermal for emission in emissions}
    periods = {Stream.THERMAL: thermal_period * MS, Stream.RGB: rgb_period * MS}
    for frame, chosen in partner.items():
        for other in frames[chosen.stream]:
            if other not in partner:
                tolerance = periods[other.stream] // 8 + 2
                assert abs(other.stamp - frame.stamp) + tolerance >= abs(chosen.stamp - frame.stamp)

    # The slower stream governs: past the first frames and before the last, whatever can be paired is.
    slow, fast = sorted(Stream, key=lambda stream: -periods[stream])
    begin = max(frames[slow][0].stamp, frames[fast][0].stamp) + 200 * MS
    end = min(frames[slow][-1].stamp, frames[fast][-1].stamp) - 200 * MS
    if 9 / 16 * periods[fast] <= MAX_GAP:
        assert all(frame in partner for frame in frames[slow] if begin <= frame.stamp <= end)


@pytest.mark.parametrize("wrong", [{"max_gap": -1}, {"max_gap": 0, "max_wait": 0}, {"max_gap": 0, "depth": 1}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        StampPairer(**wrong)
