"""Streams of frames as two cameras send them, for the tests of what pairs them."""

import random
from typing import NamedTuple

from irvf_fusion_node.pairing import Pair, Stream

MS = 1_000_000
START = 1_000_000 * MS  # stamps of a recording begin at some time after 0
MAX_GAP = 50 * MS
MAX_WAIT = 300 * MS


class Event(NamedTuple):
    """A frame at its reception; the pairer's item, so that tests see which frames met and when."""

    arrival: int
    stream: Stream
    stamp: int


class Emission(NamedTuple):
    thermal: Event
    rgb: Event
    gap: int
    delay: int  # from the arrival of the later member to the emission


def camera(stream, hz, seconds, *, phase_ms=0.0, transport_ms=0.0, jitter_ms=0.0, missing=0.0, seed=0):
    noise = random.Random(seed)  # noqa: S311 - simulates noise
    frames = []
    for index in range(round(hz * seconds)):
        stamp = START + round(index * 1e9 / hz + (phase_ms + noise.gauss(0, 1) * jitter_ms) * MS)
        if noise.random() >= missing:
            frames.append(Event(stamp + round(transport_ms * MS), stream, stamp))
    return frames


def thermal(hz, seconds, **options):
    return camera(Stream.THERMAL, hz, seconds, seed=1, **options)


def rgb(hz, seconds, **options):
    return camera(Stream.RGB, hz, seconds, seed=2, **options)


def delayed(frames, ms):
    """The same frames (same stamps), received later."""
    return [frame._replace(arrival=frame.arrival + round(ms * MS)) for frame in frames]


def play(pairer, frames):
    """Give a pairer the frames in the order of their arrival, and return the pairs that it forms."""
    emissions = []
    for frame in sorted(frames):
        for pair in pairer.add(frame.stream, frame, frame.stamp, frame.arrival):
            assert isinstance(pair, Pair)
            delay = frame.arrival - max(pair.thermal.arrival, pair.rgb.arrival)
            emissions.append(Emission(pair.thermal, pair.rgb, pair.gap, delay))
    return emissions


def stamps(emissions):
    return [(emission.thermal.stamp, emission.rgb.stamp) for emission in emissions]


def dropped(pairer, stream):
    return dict(pairer.counts(stream).dropped)


def assert_account_is_balanced(pairer):
    for stream in Stream:
        counts = pairer.counts(stream)
        assert counts.received == counts.paired + counts.alone + sum(counts.dropped.values()) + counts.waiting
