"""Streams as they come in the field: late, wild, lost and found again; what pairing makes of them."""

import random
from collections import Counter
from itertools import chain, pairwise
from statistics import median

import pytest
from camera_streams import (
    MAX_GAP,
    MAX_WAIT,
    MS,
    START,
    Event,
    assert_account_is_balanced,
    dropped,
    play,
    rgb,
    stamps,
    thermal,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from irvf_fusion_node.pairing import DropReason, Pair, Single, StampPairer, Stream

SECOND = 1000 * MS
DAY = 86_400 * SECOND
LOSS_AFTER = 500 * MS
BOTH = frozenset(Stream)


def moved(frames, number, by):
    """The same frames, one of them stamped wrongly."""
    return [frame._replace(stamp=frame.stamp + by) if i == number else frame for i, frame in enumerate(frames)]


def follow(pairer, frames, until=None, tick=100 * MS):
    """Play frames with the node's timer in between; return ``(time, Pair or Single)`` in their order."""
    frames = sorted(frames)
    ticks = range(frames[0].arrival, until or frames[-1].arrival, tick)
    calls = sorted([(frame.arrival, frame) for frame in frames] + [(now, None) for now in ticks], key=lambda c: c[0])
    handed_out = []
    for now, frame in calls:
        output = pairer.expire(now) if frame is None else pairer.add(frame.stream, frame, frame.stamp, now)
        handed_out += [(now, entry) for entry in output]
        assert_account_is_balanced(pairer)
    return handed_out


def published(entry):
    """The stamp that an output of this pair or single frame carries."""
    return entry.rgb.stamp if isinstance(entry, Pair) else entry.stamp


def members(entry):
    return [entry.thermal, entry.rgb] if isinstance(entry, Pair) else [entry.item]


def between(frames, start, end):
    return [frame for frame in frames if start <= frame.arrival < end]


# The nearest frame, whatever the phase


@pytest.mark.parametrize(("jitter_ms", "transport_jitter_ms"), [(0, 0), (0, 2), (1, 0), (2, 2)])
@pytest.mark.parametrize("stamped_late", [False, True])
def test_slow_thermal_and_late_rgb_meet_as_near_as_their_phase_allows(stamped_late, jitter_ms, transport_jitter_ms):
    """9 Hz falls on three phases of 30 Hz, a third of a period apart: p, p + 11.1 and p + 22.2 ms after an RGB frame.

    The nearest frames are then p, 11.1 - p and at least 11.1 ms away, for p in 0..11.1 ms: the median can be no less
    than max(p, 11.1 - p), which is below 6 ms for p from 5.1 to 6.0 ms and 5.6 ms at best. Where the cameras
    themselves are irregular, the nearest frames are what can be had.
    """
    noise = random.Random(3)  # noqa: S311 - simulates noise
    gaps = []
    for step in range(12):
        phase_ms = step * 1000 / 9 / 12
        slow = thermal(9, 15, phase_ms=phase_ms, jitter_ms=jitter_ms)
        fast = rgb(30, 16, transport_ms=60, jitter_ms=jitter_ms)
        shift = 60 * MS if stamped_late else 0
        sent = [frame._replace(stamp=frame.stamp + shift) for frame in fast]
        sent = [
            frame._replace(arrival=frame.arrival + round(noise.random() * transport_jitter_ms * MS)) for frame in sent
        ]
        pairer = StampPairer(MAX_GAP, rgb_delay=shift)
        emissions = play(pairer, slow + sent)
        assert len(emissions) >= len(slow) - 1
        gaps.append(median(abs(emission.gap) for emission in emissions) / MS)
        nearest = median(min(abs(frame.stamp - other.stamp) for other in fast) for frame in slow) / MS
        assert gaps[-1] == pytest.approx(nearest, abs=0.3 if jitter_ms else 0.05)
        if not jitter_ms:
            within = phase_ms % (1000 / 90)
            assert gaps[-1] == pytest.approx(max(within, 1000 / 90 - within), abs=0.05)
    if not jitter_ms:
        assert min(gaps) <= 6


@given(thermal_delay=st.integers(-900, 900), rgb_delay=st.integers(-900, 900))
@settings(max_examples=20, deadline=None)
def test_only_the_difference_of_the_delays_matters(thermal_delay, rgb_delay):
    slow, fast = thermal(9, 5, phase_ms=3), rgb(30, 5)
    expected = stamps(play(StampPairer(MAX_GAP, thermal_delay=(thermal_delay - rgb_delay) * MS), slow + fast))
    pairer = StampPairer(MAX_GAP, thermal_delay=thermal_delay * MS, rgb_delay=rgb_delay * MS)
    assert stamps(play(pairer, slow + fast)) == expected


def test_a_delay_that_is_set_while_running_keeps_the_account_and_pairs_at_once():
    pairer = StampPairer(10 * MS)
    late = [frame._replace(stamp=frame.stamp + 80 * MS) for frame in thermal(30, 20)]  # stamped 80 ms late
    frames = sorted(late + rgb(30, 20))
    half = START + 10 * SECOND
    play(pairer, [frame for frame in frames if frame.arrival < half])
    received = pairer.counts(Stream.THERMAL).received
    pairer.set_delay(Stream.THERMAL, 80 * MS)
    assert pairer.delay(Stream.THERMAL) == 80 * MS
    assert pairer.counts(Stream.THERMAL).received == received
    emissions = play(pairer, [frame for frame in frames if frame.arrival >= half])
    assert {emission.gap for emission in emissions} == {0}
    assert len(emissions) >= 298
    assert DropReason.LATE not in dropped(pairer, Stream.THERMAL)
    assert_account_is_balanced(pairer)


# Stamps that go wild


@pytest.mark.parametrize("by", [-DAY, -SECOND, SECOND, 3 * SECOND, DAY, 365 * DAY])
@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("number", [0, 1, 150])
def test_a_wild_stamp_costs_its_own_frame_only(stream, by, number):
    frames = {Stream.THERMAL: thermal(30, 10), Stream.RGB: rgb(30, 10, transport_ms=20)}
    frames[stream] = moved(frames[stream], number, by)
    pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT)
    handed_out = follow(pairer, chain(*frames.values()))
    emissions = [pair for _, pair in handed_out]
    if by == SECOND:  # not so wild that it must be a mistake at once: what follows says so
        assert len(emissions) >= 299 - 1
    else:
        assert len(emissions) >= 299 - (number == 0)
    # The next pair comes with the next frame.
    assert max(after - before for (before, _), (after, _) in pairwise(handed_out)) <= 101 * MS


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_stamps_that_are_often_wild_cost_their_frames_and_few_others(share):
    noise = random.Random(7)  # noqa: S311 - simulates noise
    bad = [
        frame._replace(stamp=frame.stamp + round(noise.uniform(-1, 1) * DAY)) if noise.random() < share else frame
        for frame in thermal(30, 20)
    ]
    good = sum(frame.stamp == frame.arrival for frame in bad)
    emissions = play(StampPairer(MAX_GAP), bad + rgb(30, 20, transport_ms=20))
    right = sum(emission.thermal.stamp == emission.thermal.arrival for emission in emissions)
    assert right == len(emissions) >= good - 3


def test_a_seek_forward_in_a_bag_costs_nothing():
    frames = thermal(9, 5, phase_ms=4) + rgb(30, 5, transport_ms=60)
    later = [Event(frame.arrival + 5 * SECOND, frame.stream, frame.stamp + 600 * SECOND) for frame in frames]
    pairer = StampPairer(MAX_GAP)
    before = play(pairer, frames)
    after = play(pairer, later)
    assert len(after) >= len(before)
    assert max(emission.delay for emission in after) <= 60 * MS


@pytest.mark.parametrize("rate", [0.1, 0.5, 3, 20])
def test_bags_at_another_speed_pair_alike(rate):
    def played(frames):
        return [frame._replace(arrival=round(START + (frame.arrival - START) / rate)) for frame in frames]

    slow, fast = thermal(1, 20, phase_ms=4), rgb(10, 20, transport_ms=10)
    emissions = play(StampPairer(MAX_GAP, max_wait=3 * SECOND), played(slow + fast))
    assert [round(emission.gap / MS) for emission in emissions] == [4] * len(emissions)
    assert len(emissions) >= 19


def test_a_clock_that_stands_still_and_goes_on_costs_nothing_but_the_repeated_stamps():
    # Simulated time stops for two seconds while the drivers send on, each the same stamp again and again.
    def stopped(frames):
        stop, go = START + 3 * SECOND, START + 5 * SECOND
        now = [min(frame.stamp, stop) + max(0, frame.stamp - go) for frame in frames]
        return [frame._replace(stamp=stamp) for frame, stamp in zip(frames, now, strict=True)]

    pairer = StampPairer(MAX_GAP, alone=BOTH)
    handed_out = follow(pairer, stopped(thermal(30, 10)) + stopped(rgb(30, 10, transport_ms=5)))
    assert all(isinstance(entry, Pair) for _, entry in handed_out)
    assert len(handed_out) >= 238
    assert all(pairer.counts(stream).dropped[DropReason.DUPLICATE_STAMP] >= 59 for stream in Stream)
    resumed = next(now for now, entry in handed_out if entry.rgb.arrival > START + 5 * SECOND)
    assert resumed <= START + 5 * SECOND + 75 * MS


@settings(max_examples=25, deadline=None)
@given(
    period_ms=st.tuples(st.sampled_from([33, 111, 1000]), st.sampled_from([33, 50, 700])),
    phase_ms=st.floats(0, 40),
    jitter_ms=st.floats(0, 4),
)
@example(period_ms=(1000, 700), phase_ms=7, jitter_ms=1)
@example(period_ms=(33, 33), phase_ms=16.5, jitter_ms=4)
def test_the_second_pass_of_a_bag_pairs_exactly_as_the_first(period_ms, phase_ms, jitter_ms):
    slow = thermal(1000 / period_ms[0], 5, phase_ms=phase_ms, jitter_ms=jitter_ms)
    lap = slow + rgb(1000 / period_ms[1], 5, transport_ms=60, jitter_ms=jitter_ms)
    length = 5 * SECOND + 200 * MS
    passes = [[frame._replace(arrival=frame.arrival + n * length) for frame in lap] for n in range(3)]
    pairer = StampPairer(MAX_GAP)
    emissions = [entry for _, entry in follow(pairer, chain(*passes), until=START + 4 * length)]
    first, second, third = ([e for e in emissions if (e.rgb.arrival - START) // length == n] for n in range(3))
    assert stamps(first) == stamps(second) == stamps(third)
    assert len(first) + len(second) + len(third) == len(emissions)


def test_the_last_pair_of_a_lap_does_not_wait_for_a_frame_that_cannot_come():
    # The next RGB frame would be nearer to the last thermal one, but the bag begins anew instead.
    lap = rgb(30, 1)
    last = lap[-1].stamp + 25 * MS
    lap.append(Event(last, Stream.THERMAL, last))
    again = [frame._replace(arrival=frame.arrival + SECOND + 10 * MS) for frame in lap]
    emissions = play(StampPairer(MAX_GAP), lap + again[:3])
    assert stamps(emissions) == [(last, lap[-2].stamp)]
    assert emissions[0].delay <= 75 * MS


def test_frames_that_come_once_more_much_later_change_nothing():
    echo = [Event(frame.arrival + 250 * MS, Stream.THERMAL, frame.stamp) for frame in thermal(30, 10)]
    pairer = StampPairer(MAX_GAP)
    emissions = play(pairer, thermal(30, 10) + echo[:-15] + rgb(30, 10, transport_ms=20))
    assert stamps(emissions) == [(frame.stamp, frame.stamp) for frame in thermal(30, 10)]
    assert set(dropped(pairer, Stream.THERMAL)) == {DropReason.STAMP_JUMP}


# A stream is lost


def test_without_leave_the_loss_of_a_stream_is_known_and_nothing_goes_alone():
    pairer = StampPairer(MAX_GAP, loss_after=LOSS_AFTER)
    end = START + 3 * SECOND
    slow = between(thermal(9, 10), 0, end)
    almost = slow[-1].arrival + LOSS_AFTER - MS
    handed_out = follow(pairer, slow + between(rgb(30, 10), 0, almost))
    assert pairer.lost == {}
    assert all(isinstance(entry, Pair) for _, entry in handed_out)
    assert follow(pairer, between(rgb(30, 10), almost, START + 10 * SECOND)) == []
    assert pairer.lost == {Stream.THERMAL: slow[-1].arrival}
    assert pairer.counts(Stream.RGB).alone == 0


@pytest.mark.parametrize("lost", list(Stream))
@pytest.mark.parametrize("transport_ms", [(0, 60), (90, 0), (5, 5)])
def test_the_other_stream_goes_on_alone_and_pairs_as_soon_as_both_are_there(lost, transport_ms):
    frames = {
        Stream.THERMAL: thermal(9, 20, phase_ms=4, transport_ms=transport_ms[0]),
        Stream.RGB: rgb(30, 20, transport_ms=transport_ms[1]),
    }
    gone, back = START + 5 * SECOND, START + 12 * SECOND
    frames[lost] = [frame for frame in frames[lost] if not gone <= frame.arrival < back]
    (kept,) = BOTH - {lost}
    pairer = StampPairer(MAX_GAP, loss_after=LOSS_AFTER, alone=[kept])
    handed_out = follow(pairer, chain(*frames.values()))

    singles = [(now, entry) for now, entry in handed_out if isinstance(entry, Single)]
    assert {entry.stream for _, entry in singles} == {kept}
    first, last = singles[0][0], singles[-1][0]
    last_seen = max(frame.arrival for frame in frames[lost] if frame.arrival < gone)
    assert last_seen + LOSS_AFTER <= first <= last_seen + LOSS_AFTER + 120 * MS
    # At its own rate, and at once.
    assert {now - entry.item.arrival for now, entry in singles if entry.item.arrival > first} == {0}
    assert len(between([entry.item for _, entry in singles], first + 1, back)) == len(
        between(frames[kept], first + 1, back)
    )
    found = next(now for now, entry in handed_out if isinstance(entry, Pair) and now > last)
    assert found <= back + 300 * MS
    assert all(isinstance(entry, Pair) for now, entry in handed_out if now >= found)
    assert_outputs_are_in_order(handed_out)


def assert_outputs_are_in_order(handed_out):
    used = Counter(member for _, entry in handed_out for member in members(entry))
    assert set(used.values()) <= {1}
    assert all(published(before) < published(after) for (_, before), (_, after) in pairwise(handed_out))


@pytest.mark.parametrize("there", list(Stream))
def test_a_stream_that_never_comes_is_lost_too(there):
    frames = thermal(9, 5) if there is Stream.THERMAL else rgb(30, 5)
    pairer = StampPairer(MAX_GAP, loss_after=LOSS_AFTER, alone=BOTH)
    handed_out = follow(pairer, frames)
    assert set(pairer.lost.values()) == {START}
    assert set(pairer.lost) == BOTH - {there}
    assert len(handed_out) >= len(frames) - 7  # those that were given up before the loss was certain
    assert handed_out[0][0] <= START + LOSS_AFTER + 112 * MS


def test_a_slow_stream_is_not_lost_between_its_frames():
    pairer = StampPairer(MAX_GAP, loss_after=LOSS_AFTER, alone=BOTH)
    handed_out = follow(pairer, thermal(1, 30) + rgb(30, 30))
    known = [entry for now, entry in handed_out if now > START + 4 * SECOND]
    assert known
    assert all(isinstance(entry, Pair) for entry in known)
    follow(pairer, between(rgb(30, 40), START + 30 * SECOND, START + 32 * SECOND - 50 * MS))
    assert pairer.lost == {}
    follow(pairer, between(rgb(30, 40), START + 32 * SECOND - 50 * MS, START + 32 * SECOND + 50 * MS))
    assert set(pairer.lost) == {Stream.THERMAL}


def test_a_stream_whose_stamps_stand_still_is_lost():
    stuck = [frame._replace(stamp=min(frame.stamp, START + 2 * SECOND)) for frame in thermal(9, 6)]
    pairer = StampPairer(MAX_GAP, loss_after=LOSS_AFTER, alone=[Stream.RGB])
    handed_out = follow(pairer, stuck + rgb(30, 6))
    assert set(pairer.lost) == {Stream.THERMAL}
    assert sum(isinstance(entry, Single) for _, entry in handed_out) >= 3 * 30


def test_when_both_are_lost_nothing_old_goes_alone():
    pairer = StampPairer(MAX_GAP, max_wait=3 * SECOND, loss_after=LOSS_AFTER, alone=BOTH)
    apart = [frame._replace(stamp=frame.stamp + SECOND) for frame in thermal(30, 0.4)]
    assert follow(pairer, apart + rgb(30, 0.4), until=START + 10 * SECOND) == []
    assert set(pairer.lost) == BOTH
    assert pairer.counts(Stream.RGB).waiting == pairer.counts(Stream.RGB).alone == 0


def test_a_frame_that_another_one_has_overtaken_stays_behind():
    # RGB went alone up to now; thermal frames, 90 ms later on their way, take over from it.
    slow = thermal(30, 10, transport_ms=90)
    fast = rgb(30, 10)
    frames = between(slow, START + 5 * SECOND, START + 11 * SECOND) + between(fast, 0, START + 5 * SECOND)
    pairer = StampPairer(MAX_GAP, loss_after=50 * MS, alone=BOTH)
    handed_out = follow(pairer, frames, tick=10 * MS)
    assert {entry.stream for _, entry in handed_out if isinstance(entry, Single)} == BOTH
    assert_outputs_are_in_order(handed_out)


def test_no_pair_is_older_than_what_went_alone():
    pairer = StampPairer(MAX_GAP, loss_after=LOSS_AFTER, alone=BOTH)
    handed_out = follow(pairer, thermal(30, 2))
    last = handed_out[-1][1].stamp
    # An RGB frame from before the last output, and the thermal frame that comes now is within reach of it.
    late = Event(last + 20 * MS, Stream.RGB, last - 10 * MS)
    now = Event(last + 33 * MS, Stream.THERMAL, last + 33 * MS)
    assert follow(pairer, [late, now], until=last + 60 * MS) == []
    assert dropped(pairer, Stream.RGB) == {DropReason.OVERTAKEN: 1}
    later = Event(last + 70 * MS, Stream.RGB, last + 40 * MS)
    (pair,) = (entry for _, entry in follow(pairer, [later], until=last + SECOND, tick=20 * MS))
    assert members(pair) == [now, later]


@pytest.mark.parametrize("by", [-DAY, -SECOND, DAY])
def test_a_wild_stamp_does_not_go_out_alone(by):
    handed_out = follow(StampPairer(MAX_GAP, alone=BOTH), moved(thermal(30, 5), 100, by))
    assert all(entry.item.stamp == entry.item.arrival for _, entry in handed_out)
    assert_outputs_are_in_order(handed_out)
    assert len(handed_out) >= 149 - 16


def test_thermal_frames_alone_are_stamped_as_rgb_frames_would_be():
    pairer = StampPairer(MAX_GAP, thermal_delay=80 * MS, rgb_delay=30 * MS, alone=BOTH)
    handed_out = follow(pairer, thermal(9, 3))
    assert {entry.item.stamp - entry.stamp for _, entry in handed_out} == {50 * MS}


@settings(max_examples=60, deadline=None)
@given(
    outages=st.lists(
        st.tuples(st.sampled_from(list(Stream)), st.integers(0, 9000), st.integers(100, 3000)), max_size=6
    ),
    hz=st.tuples(st.sampled_from([1, 5, 9, 30]), st.sampled_from([9, 15, 30, 60])),
    transport_ms=st.tuples(st.integers(0, 120), st.integers(0, 120)),
    phase_ms=st.integers(0, 33),
    thermal_delay=st.integers(-100, 100),
)
def test_outputs_never_repeat_nor_go_back_whatever_is_lost(outages, hz, transport_ms, phase_ms, thermal_delay):
    slow = thermal(hz[0], 12, phase_ms=phase_ms, transport_ms=transport_ms[0], jitter_ms=1)
    slow = [frame._replace(stamp=frame.stamp + thermal_delay * MS) for frame in slow]
    frames = slow + rgb(hz[1], 12, transport_ms=transport_ms[1], jitter_ms=1)
    for stream, start, length in outages:
        away = range(START + start * MS, START + (start + length) * MS)
        frames = [frame for frame in frames if frame.stream is not stream or frame.arrival not in away]
    pairer = StampPairer(MAX_GAP, thermal_delay=thermal_delay * MS, alone=BOTH)
    handed_out = follow(pairer, frames)
    assert_outputs_are_in_order(handed_out)
    last = max(frame.arrival for frame in frames)
    follow(pairer, [Event(last + 5 * SECOND, Stream.RGB, last + 5 * SECOND)], until=last + 8 * SECOND)
    pairer.expire(last + 8 * SECOND)
    assert all(pairer.counts(stream).waiting == 0 for stream in Stream)


# Whatever happens


class FieldDay(RuleBasedStateMachine):
    """Two cameras with a clock each; anything may happen to their stamps, and then all is well again."""

    DEPTH = 40

    def __init__(self):
        super().__init__()
        self.now = START
        self.period = {Stream.THERMAL: 111 * MS, Stream.RGB: 33 * MS}
        self.due = dict.fromkeys(Stream, START)
        self.offset = dict.fromkeys(Stream, 0)
        self.silent = dict.fromkeys(Stream, False)
        self.received = Counter()
        self.used = Counter()
        self.delays = {Stream.THERMAL: 0, Stream.RGB: 0}

    @initialize(alone=st.sets(st.sampled_from(list(Stream))), phase=st.integers(0, 110))
    def begin(self, alone, phase):
        self.due[Stream.THERMAL] += phase * MS
        self.pairer = StampPairer(MAX_GAP, max_wait=MAX_WAIT, alone=alone, depth=self.DEPTH)

    def give(self, stream, stamp):
        event = Event(self.now, stream, stamp)
        self.received[stream] += 1
        self.check(self.pairer.add(stream, (self.received[stream], event), stamp, self.now))

    def check(self, output):
        for entry in output:
            for number, event in members(entry):
                self.used[event.stream, number] += 1
                assert self.used[event.stream, number] == 1
                # Older frames are given up: the node's timer looks every 100 ms.
                assert entry.formed - event.arrival <= MAX_WAIT + 100 * MS
            if isinstance(entry, Pair):
                assert abs(entry.gap) <= MAX_GAP
            assert entry.formed == self.now

    def run_for(self, duration):
        end = self.now + duration
        tick = self.now
        while True:
            stream = min((s for s in Stream if not self.silent[s]), key=self.due.get, default=None)
            due = min(tick, end) if stream is None else min(tick, end, self.due[stream])
            self.now = max(self.now, due)
            if due == end:
                break
            if due == tick:
                tick += 100 * MS
                self.check(self.pairer.expire(self.now))
            else:
                self.give(stream, self.now + self.offset[stream])
                self.due[stream] += self.period[stream]
        for quiet in Stream:
            self.due[quiet] = max(self.due[quiet], self.now)

    @rule(duration=st.integers(1, 1200))
    def time_passes(self, duration):
        self.run_for(duration * MS)

    @rule(stream=st.sampled_from(list(Stream)), by=st.integers(-DAY, DAY))
    def a_wild_stamp(self, stream, by):
        self.give(stream, self.now + by)

    @rule(stream=st.sampled_from(list(Stream)), stamps=st.lists(st.integers(-2000, 2000), max_size=12))
    def a_burst_of_garbage(self, stream, stamps):
        for stamp in stamps:
            self.give(stream, self.now + stamp * MS)

    @rule(stream=st.sampled_from(list(Stream)), count=st.integers(1, 60))
    def a_stamp_again_and_again(self, stream, count):
        for _ in range(count):
            self.give(stream, self.now)

    @rule(by=st.integers(-DAY, DAY), streams=st.sets(st.sampled_from(list(Stream)), min_size=1))
    def clocks_are_set(self, by, streams):
        for stream in streams:
            self.offset[stream] += by

    @rule(stream=st.sampled_from(list(Stream)))
    def a_stream_stops_or_comes_back(self, stream):
        self.silent[stream] = not self.silent[stream]

    @rule(stream=st.sampled_from(list(Stream)), period=st.sampled_from([8, 33, 111, 1000]))
    def a_rate_changes(self, stream, period):
        self.period[stream] = period * MS

    @rule(stream=st.sampled_from(list(Stream)), delay=st.integers(-500, 500))
    def a_delay_is_set(self, stream, delay):
        self.delays[stream] = delay * MS
        self.pairer.set_delay(stream, delay * MS)

    @rule(stamp=st.sampled_from([0, -1, 1, 2**62]), stream=st.sampled_from(list(Stream)))
    def a_stamp_that_is_none(self, stamp, stream):
        self.give(stream, stamp)

    @precondition(lambda self: self.received)
    @rule()
    def all_is_well_again(self):
        self.silent = dict.fromkeys(Stream, False)
        self.period = {Stream.THERMAL: 111 * MS, Stream.RGB: 33 * MS}
        self.offset = dict.fromkeys(Stream, 0)
        for stream in Stream:
            self.pairer.set_delay(stream, 0)
            self.due[stream] = min(self.due[stream], self.now + self.period[stream])
        before = self.pairer.counts(Stream.THERMAL).paired
        self.run_for(SECOND)
        assert self.pairer.counts(Stream.THERMAL).paired - before >= 2
        settled = self.pairer.counts(Stream.THERMAL).paired
        self.run_for(2 * SECOND)
        assert self.pairer.counts(Stream.THERMAL).paired - settled >= 17

    @invariant()
    def every_frame_is_accounted_for(self):
        if hasattr(self, "pairer"):
            assert_account_is_balanced(self.pairer)
            for stream in Stream:
                counts = self.pairer.counts(stream)
                assert counts.received == self.received[stream]
                assert counts.waiting <= self.DEPTH
                assert counts.paired + counts.alone == sum(n for (s, _), n in self.used.items() if s is stream)


TestFieldDay = FieldDay.TestCase
TestFieldDay.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
