"""Streams that stall, stop, jump, repeat themselves and come late."""

import time
from collections import Counter

from cameras import STREAMS, Frame
from faults import Injected, fault

from irvf_fusion_node.camera_messages import with_stamp

REORDER_LIMIT = 200_000_000


def streams(rng):
    return rng.choice([("thermal",), ("rgb",), STREAMS])


def warned(trial, begin):
    """Say what is missing where diagnostics did not warn of a silence of more than three seconds."""
    found = trial.node.wait_for(
        lambda: any(d.arrival > begin + 1 and max(d.levels.values()) >= 1 for d in trial.node.diagnostics), 2.0
    )
    return [] if found else ["a silence of 3.5 s was not said in diagnostics"]


@fault("stream stalls and resumes")
def stall(trial):
    silent = streams(trial.rng)
    begin, seconds = time.monotonic(), trial.rng.choice([1.0, 2.0, 3.5])
    trial.cameras.fault = lambda frame: [] if frame.stream in silent else [frame]
    try:
        trial.sleep(seconds)
        problems = warned(trial, begin) if seconds > 3 else []
    finally:
        trial.cameras.fault = None
    return Injected(1, problems=problems, note=f"{', '.join(silent)} silent for {seconds} s")


@fault("stream stalls, then all held frames come at once")
def burst(trial):
    silent = streams(trial.rng)
    held = []

    def hold(frame):
        if frame.stream not in silent:
            return [frame]
        held.append(frame)
        return []

    trial.through(hold, min(trial.seconds, 2.0))
    for frame in held:
        trial.cameras.send(frame)
    return Injected(len(held), note="held frames")


@fault("camera ends and starts again")
def reconnect(trial):
    gone = streams(trial.rng)
    for stream in gone:
        trial.cameras.disconnect(stream)
    trial.sleep(trial.seconds)
    for stream in gone:
        trial.cameras.connect(stream)
    trial.node.wait_for(trial.cameras.is_heard, 5.0)  # the middleware's discovery is no part of the node's second
    return Injected(len(gone), is_lossless=False)


def jump(trial, distance, moved):
    before = len(trial.cameras.good["rgb"])

    def shift(frame):
        if frame.stream not in moved:
            return [frame]
        stamp = frame.stamp + distance
        return [Frame(frame.stream, stamp, trial.cameras.picture(frame.stream, before, stamp), "jump")]

    return Injected(sum(trial.through(shift).values()), note=f"{', '.join(moved)} by {distance / 1e9:+.1f} s")


@fault("stamps jump back")
def jump_back(trial):
    return jump(trial, -trial.rng.choice([300_000_000, 5_000_000_000, 3_600_000_000_000]), streams(trial.rng))


@fault("stamps jump forward")
def jump_forward(trial):
    return jump(trial, trial.rng.choice([100_000_000, 5_000_000_000, 3_600_000_000_000]), streams(trial.rng))


@fault("duplicates")
def duplicates(trial):
    def repeat(frame):
        copies = [Frame(frame.stream, frame.stamp, frame.data, "duplicate")] * trial.rng.choice([0, 0, 1, 2])
        return [frame, *copies]

    sent = trial.through(repeat)
    for stream in STREAMS:  # they are what the first ones are: good
        for stamp in trial.cameras.good[stream]:
            trial.cameras.faulty_stamps.pop((stream, stamp), None)
    expected = Counter({f"{stream} dropped.duplicate_stamp": n for (stream, _), n in sent.items()})
    return Injected(sum(sent.values()), expected)


@fault("out of order")
def swapped(trial):
    held = {}
    late = Counter()

    def swap(frame):
        before = held.pop(frame.stream, None)
        if before is not None:
            behind = frame.stamp - before.stamp
            late[f"{frame.stream} dropped.late"] += behind <= REORDER_LIMIT
            return [frame, before]
        if trial.rng.random() < 0.3:
            held[frame.stream] = frame
            return []
        return [frame]

    trial.through(swap)
    return Injected(sum(late.values()), late)


@fault("zero stamps")
def zero_stamps(trial):
    spoilt = streams(trial.rng)

    def zero(frame):
        if frame.stream not in spoilt or trial.rng.random() < 0.4:
            return [frame]
        stamp = trial.rng.choice([0, 0, -5_000_000_000])
        return [Frame(frame.stream, stamp, trial.cameras.picture(frame.stream, 0, stamp), "no stamp")]

    sent = trial.through(zero)
    expected = Counter({f"{stream} dropped.no_stamp": n for (stream, _), n in sent.items()})
    return Injected(sum(sent.values()), expected)


@fault("thermal image freezes", needs="thermal.freeze_after")
def freeze(trial):
    held = []

    def repeat(frame):
        if frame.stream != "thermal":
            return [frame]
        held.append(frame)
        return [Frame("thermal", frame.stamp, with_stamp(held[0].data, frame.stamp), "frozen")]

    sent = sum(trial.through(repeat, max(trial.seconds, 2.0)).values())
    return Injected(1, at_least=Counter({"pairs.rgb_only": 1}), note=f"{sent} times the same image")


@fault("other rates")
def rates(trial):
    normal = dict(trial.cameras.rates)
    trial.cameras.rates.update({stream: trial.rng.choice([3.0, 9.0, 25.0, 30.0]) for stream in STREAMS})
    note = ", ".join(f"{stream} {rate:g} Hz" for stream, rate in trial.cameras.rates.items())
    try:
        trial.sleep(trial.seconds)
    finally:
        trial.cameras.rates.update(normal)
    return Injected(1, note=note)


@fault("stamps tremble")
def jitter(trial):
    def tremble(frame):
        stamp = frame.stamp + trial.rng.randint(-30_000_000, 30_000_000)
        return [Frame(frame.stream, stamp, trial.cameras.picture(frame.stream, stamp % 100, stamp), "jitter")]

    return Injected(sum(trial.through(tremble).values()))
