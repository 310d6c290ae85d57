"""`irvf soak`, what needs no ROS: the rule that calls a run flat, readings of a process, report, figures and plot."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from irvf.cli import soak
from irvf.evaluation.machine import Reading
from irvf.evaluation.soak import Check, Disturbances, Pairs, Sample, Span, judge, read_sample, slope
from irvf.evaluation.soak_report import soak_report, verdict

MEGA = 1_000_000
MINUTES = 30
RATE = 30
ANSWERED = Disturbances({"instructions": 360}, {"instructions": 360})
SETTINGS = {
    "machine": {"date": "2026-01-01", "commit": "abc", "cpu": "a processor", "cores": 2, "load": [0.1]},
    "minutes": MINUTES,
    "rate": RATE,
    "thermal_size": [640, 512],
    "rgb_size": [640, 480],
    "transport": "environment",
}


def readings(minutes=MINUTES, memory=None, shared=None, files=None, threads=None, period=1.0):
    """A process that warms up by 80 MB in its first five minutes and then stays, but for what pools take and give.

    Args:
        memory: MB on top of that, of the minute.
        shared: MB of shared memory, of the minute.
        files: open on top of 40, of the minute.
        threads: likewise, on top of 25.
    """
    random = np.random.default_rng(0)
    samples = []
    for number in range(round(minutes * 60 / period)):
        minute = number * period / 60
        warm = 420 - 80 * np.exp(-minute / 1.5)
        private = warm + random.normal(0, 2) + 4 * (minute % 0.7) + (memory(minute) if memory else 0)
        samples.append(
            Sample(
                Reading(1000 + number * period, 0.9 * number * period, round((private + 150) * MEGA), 0.0, 0.0, 0.0),
                round(private * MEGA),
                round((36 + (shared(minute) if shared else 0)) * MEGA),
                40 + int(files(minute) if files else 0) + 3 * (number % 97 == 0),
                25 + int(threads(minute) if threads else 0),
            )
        )
    return samples


def played(minutes=MINUTES, slower=None, lost=None):
    """Pairs with latencies of 12 to 30 ms; ``slower`` ms and the share ``lost`` on top, of the minute."""
    random = np.random.default_rng(1)
    count = round(minutes * 60 * RATE)
    at = np.arange(count) / RATE / 60
    latency = random.uniform(12, 30, count) + (np.array([slower(minute) for minute in at]) if slower else 0)
    outcomes = np.full(count, "fused", object)
    if lost:
        gone = random.uniform(0, 1, count) < np.array([lost(minute) for minute in at])
        latency[gone], outcomes[gone] = np.nan, "superseded"
    return Pairs(1000 + at * 60, latency, tuple(outcomes))


def broken(samples=None, pairs=None, disturbances=ANSWERED, minutes=MINUTES):
    """Names of the checks that do not hold."""
    span = Span.of(1000, 1000 + 60 * minutes)
    checks = judge(samples or readings(minutes), pairs or played(minutes), disturbances, span)
    return [check.name for check in checks if not check.holds]


def test_a_process_that_warms_up_and_stays_is_flat():
    assert broken() == []


@pytest.mark.parametrize("minutes", [6, 10, 30, 120])
@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_a_leak_of_one_megabyte_a_minute_is_seen(kind, minutes):
    name = {"memory": "private memory", "shared": "shared memory"}[kind]
    assert f"{name}, slope" in broken(readings(minutes, **{kind: lambda minute: minute}), minutes=minutes)


@pytest.mark.parametrize("kind", ["files", "threads"])
@pytest.mark.parametrize("minutes", [3, 30])
def test_one_a_minute_that_stays_open_is_seen(kind, minutes):
    name = {"files": "open files", "threads": "threads"}[kind]
    assert name in broken(readings(minutes, **{kind: lambda minute: minute}), minutes=minutes)


@pytest.mark.parametrize("kind", ["files", "threads"])
def test_a_single_one_that_stays_open_is_seen(kind):
    name = {"files": "open files", "threads": "threads"}[kind]
    assert broken(readings(**{kind: lambda minute: minute > 20})) == [name]
    assert broken(readings(**{kind: lambda minute: -(minute > 20)})) == [name]  # a thread that died


def test_the_smallest_leak_that_the_report_promises_is_seen():
    span = Span.of(0, MINUTES * 60)
    leak = span.smallest_leak_mb_per_minute()
    assert 0.1 < leak < 0.2  # 10 MB an hour
    assert "shared memory, slope" in broken(readings(shared=lambda minute: 1.05 * leak * minute))
    assert broken(readings(shared=lambda minute: 0.95 * leak * minute)) == []


def test_memory_that_is_taken_at_once_and_kept_is_seen():
    assert "private memory, level" in broken(readings(memory=lambda minute: 20 * (minute > 20)))


def test_a_peak_of_memory_is_no_leak():
    assert broken(readings(memory=lambda minute: 60 * (20 < minute < 20.2))) == []


def test_what_happens_in_the_warm_up_is_not_judged():
    slow = played(slower=lambda minute: 300 * (minute < 1), lost=lambda minute: minute < 1)
    assert broken(readings(files=lambda minute: 9 * (minute < 2)), slow) == []


def test_latency_that_rises_is_seen():
    assert broken(pairs=played(slower=lambda minute: minute)) == ["latency, p95"]
    assert broken(pairs=played(slower=lambda minute: 0.1 * minute)) == []
    assert broken(pairs=played(slower=lambda minute: 30 - minute)) == []


def test_pairs_that_are_dropped_are_seen():
    assert broken(pairs=played(lost=lambda _: 0.1)) == []
    assert broken(pairs=played(lost=lambda _: 0.3)) == ["pairs dropped"]
    assert broken(pairs=played(lost=lambda minute: 0.1 * (minute > 26))) == ["pairs dropped, change"]


def test_a_node_that_answers_nothing_is_not_flat():
    assert "pairs dropped" in broken(pairs=played(lost=lambda minute: minute > 15))
    nothing = Pairs(np.empty(0), np.empty(0), ())
    assert set(broken(pairs=nothing)) >= {"pairs dropped", "latency, p95"}


def test_answers_that_are_missing_or_wrong_are_seen():
    missing = Disturbances({"instructions": 9, "parameter changes": 9}, {"instructions": 9, "parameter changes": 8})
    assert broken(disturbances=missing) == ["parameter changes"]
    assert broken(disturbances=replace(ANSWERED, wrong=["parameter model = average: it was taken"])) == ["answers"]


def test_too_short_a_run_is_refused():
    with pytest.raises(ValueError, match="too few"):
        broken(readings(0.5), minutes=0.5)


def test_the_slope_is_the_median_of_the_slopes():
    # Theil 1950: of (0, 0), (1, 1), (2, 2), (3, 30) the slopes are 1, 1, 10, 1, 14.5 and 28.
    assert slope(np.arange(4.0), np.array([0.0, 1.0, 2.0, 30.0])) == 5.5
    assert slope(np.arange(3.0), np.array([0.0, 1.0, 30.0])) == pytest.approx(15.0)
    times = np.arange(10_000.0)
    values = 0.25 * times + np.random.default_rng(0).normal(0, 5, times.size)
    values[::10] += 1000
    assert slope(times, values) == pytest.approx(0.25, rel=0.01)


# The readings of a real process

LEAKS = """
import mmap, os, threading, time
kept, end = [], threading.Event()
while True:
    kept.append(bytearray(os.urandom(2_000_000)))
    {leak}
    time.sleep(0.05)
"""


SHARED = (
    "file = os.open('/dev/shm', os.O_RDWR | os.O_TMPFILE); "
    "os.truncate(file, 1_000_000); kept.append(mmap.mmap(file, 1_000_000)); os.close(file)"
)


def course(program, seconds=3.0):
    """Read a Python program's process for so long as ``irvf soak`` reads the node's."""
    process = subprocess.Popen([sys.executable, "-c", program])  # noqa: S603  (our own program)
    try:
        time.sleep(1.0)
        with soak._sampling(process.pid, 0.05) as samples:
            time.sleep(seconds)
    finally:
        process.kill()
        process.wait()
    return samples


def broken_of(samples):
    span = Span.of(samples[0].time, samples[-1].time)
    pairs = played(1)
    pairs = replace(pairs, sent=np.linspace(samples[0].time, samples[-1].time, pairs.sent.size))
    return {check.name for check in judge(samples, pairs, ANSWERED, span) if not check.holds}


@pytest.mark.parametrize(
    ("leak", "expected"),
    [
        ("kept.append(open(os.devnull))", {"open files"}),
        ("threading.Thread(target=end.wait, daemon=True).start()", {"threads"}),
        (SHARED, {"shared memory, slope", "shared memory, level", "open files"}),  # Python keeps the file beside
    ],
)
def test_leaks_of_a_real_process_are_seen(leak, expected):
    found = broken_of(course(LEAKS.format(leak=leak)))
    assert found >= {*expected, "private memory, slope", "private memory, level"}
    assert not found & {"open files", "threads", "shared memory, slope"} - expected


def test_a_real_process_that_only_works_is_flat():
    program = "import time\nkept = bytearray(100_000_000)\nwhile True: sum(range(10_000)); time.sleep(0.01)"
    samples = course(program)
    assert broken_of(samples) == set()
    assert 100 < samples[-1].private / MEGA < 150
    assert samples[-1].private <= samples[-1].load.resident
    assert samples[-1].threads == 1
    assert samples[-1].load.process_s > samples[0].load.process_s


def test_a_process_that_is_gone_gives_no_reading():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert read_sample(process.pid) is None


# Report, figures, plot


def told():
    pairs = played(lost=lambda minute: 0.01 * (minute > 15))
    rows = {"sent_s": pairs.sent.tolist(), "latency_ms": pairs.latency_ms.tolist(), "outcome": list(pairs.outcomes)}
    return {
        "begin_s": 1000.0,
        "end_s": 1000.0 + MINUTES * 60,
        "pairs": rows,
        "disturbances": {
            "given": {"instructions": 360},
            "answered": {"instructions": 360},
            "wrong": [],
            "answer_ms": {"instructions": {"p50": 3.0, "p95": 5.0, "max": 9.0}},
        },
        "drops": {"thermal/image_raw.dropped.stalled": 2},
        "complaints": {"fusion: instruction: not understood": 30},
        "parameters": {"model": "realtime"},
        "engine": "openvino",
        "rmw": "rmw_fastrtps_cpp",
    }


def test_the_report_says_the_verdict_and_what_it_stands_on():
    span, content = Span.of(1000, 1000 + MINUTES * 60), told()
    pairs = soak._pairs_of(content)
    samples = readings()
    checks = judge(samples, pairs, soak._disturbances(content), span)
    report = soak_report(checks, samples, pairs, span, told=content, settings=SETTINGS)
    assert "**FLAT**" in report
    assert "30 minutes at 30 pairs a second, thermal 640x512, RGB 640x480" in report
    assert f"| {MINUTES * 60 * RATE} |" in report
    assert "A leak of 0.17 MB a minute or more shows" in report
    assert "thermal/image_raw.dropped.stalled: 2" in report
    bad = [*checks, Check("the node ends", "exit code -11", "with 0", holds=False)]
    assert verdict(bad) == "NOT FLAT: the node ends"
    lines = soak_report(bad, samples, pairs, span, told={}, settings=SETTINGS).splitlines()
    assert "**NOT FLAT: the node ends**" in lines
    assert any("exit code -11" in line and "**no**" in line for line in lines)


def test_figures_are_json_that_any_reader_takes():
    content = soak._content([Check("a", "1", "2", holds=True)], readings(1), told(), SETTINGS)
    read = json.loads(json.dumps(content, allow_nan=False))
    assert len(read["samples"]) == 60
    assert read["samples"][0]["s"] == 0
    assert len(read["pairs"]["latency_ms"]) == MINUTES * 60 * RATE
    assert read["pairs"]["latency_ms"].count(None) == read["pairs"]["outcome"].count("superseded") > 0


def test_the_plot_has_a_line_for_all_that_is_judged(tmp_path):
    plots = pytest.importorskip("irvf.evaluation.soak_plot", reason="plots need matplotlib")
    span, pairs = Span.of(1000, 1000 + MINUTES * 60), soak._pairs_of(told())
    path = plots.plot_soak(readings(), pairs, span, "FLAT", tmp_path / "soak.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plots.plot_soak(readings(2), None, span, "NOT FLAT", tmp_path / "lost.png").stat().st_size > 10_000
    parts = plots.windows(pairs)
    assert len(parts) == 180
    assert sum(part.sent.size for _, part in parts) == pairs.sent.size
    assert parts[0][0] - 1000 == pytest.approx(5, abs=0.1)
