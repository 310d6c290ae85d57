"""`irvf bench node`, what needs no ROS: schedule, figures, result file, street, arguments, ends of processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from irvf.cli import bench_node
from irvf.cli.__main__ import main
from irvf.cli.node_process import last_words, node_environment, node_process, run_beside
from irvf.evaluation.machine import Reading, commit, describe_machine, read_load
from irvf.evaluation.node_report import highest_held, node_report, results_file
from irvf.evaluation.node_timing import RateRecord, due_ns, memory_mb, spread, summarize
from irvf.evaluation.street import street_frames

MILLISECOND = 1_000_000
SETTINGS = {
    "thermal_size": [640, 512],
    "rgb_size": [640, 480],
    "seconds": 1.0,
    "instruction": "detection",
    "subscribed": ["image", "detections"],
    "transport": "environment",
}
# The members of ros2_benchmark's BasicPerformanceMetrics and ResourceMetrics that its result files of a node hold.
PUBLISHED = {
    "BasicPerformanceMetrics": [
        "RECEIVED_DURATION",
        "MEAN_PLAYBACK_FRAME_RATE",
        "MEAN_FRAME_RATE",
        "NUM_MISSED_FRAMES",
        "NUM_FRAMES_SENT",
        "FIRST_SENT_RECEIVED_LATENCY",
        "LAST_SENT_RECEIVED_LATENCY",
        "MAX_JITTER",
        "MIN_JITTER",
        "MEAN_JITTER",
        "STD_DEV_JITTER",
    ],
    "ResourceMetrics": [f"{kind}_OVERALL_CPU_UTILIZATION" for kind in ("BASELINE", "MAX", "MIN", "MEAN", "STDDEV")],
}


def reading(seconds, node=0.0, busy=0.0, total=0.0, resident=0):
    return Reading(time=seconds, process_s=node, resident=resident, busy_s=busy, total_s=total, own_s=0.1 * node)


def ten_pairs():
    """Ten pairs at 10 Hz: images of the even ones after 20, 30, ... 60 ms, detections 1 ms later, of the last none."""
    sent = {1000 + n: 5_000_000_000 + n * 100 * MILLISECOND for n in range(10)}
    images = {1000 + n: sent[1000 + n] + (20 + 5 * n) * MILLISECOND for n in range(0, 10, 2)}
    detections = {stamp: end + MILLISECOND for stamp, end in images.items() if stamp != 1008}
    outcomes = {1000 + n: "superseded" if n % 2 else "fused" for n in range(9)}
    return RateRecord(
        rate=10.0,
        sent=sent,
        late_ms=[0.1] * 10,
        arrivals={"image": {**images, 7: 1}, "detections": detections},  # 7: of a pair of another rate
        outcomes={**outcomes, 7: "fused"},
        stages={"fuse": [1.0, 2.0, 9.0]},
        services={"get_parameters": [3.0, 5.0]},
        calls=Counter(get_parameters=3, set_instruction=0),
        readings=[reading(0, 1.0, 10.0, 20.0), reading(0.5, 1.2, 10.6, 21.0), reading(1, 1.6, 11.4, 22.0)],
    )


def test_the_schedule_does_not_drift():
    # A third of a second cannot be written in ns: the 30 000th pair is due after 1000 s all the same.
    assert due_ns(30_000, 30.0) == 1000 * 1_000_000_000
    assert [due_ns(n, 30.0) for n in range(4)] == [0, 33_333_333, 66_666_667, 100_000_000]


def test_every_pair_is_counted_once():
    custom = summarize(ten_pairs())["custom"]
    assert custom["pairs"] == {
        "sent": 10,
        "fused": 5,
        "superseded": 4,
        "refused": 0,
        "not_paired": 1,
        "answered": 4,
    }
    assert custom["received"] == {"image": 5, "detections": 4}
    assert custom["dropped_share"] == pytest.approx(0.6)


def test_latency_and_frequency_are_those_of_the_pairs():
    custom = summarize(ten_pairs())["custom"]
    assert custom["latency_ms"]["image"] == {"min": 20, "mean": 40, "p50": 40, "p95": 58, "p99": 59.6, "max": 60}
    assert custom["latency_ms"]["detections"]["max"] == 51
    # Four intervals of 210 ms.
    assert custom["fps"]["image"] == pytest.approx(1000 / 210, abs=1e-3)
    assert custom["stages_ms"] == {"fuse": 2.0}
    assert custom["services_ms"]["get_parameters"]["p50"] == 4
    assert custom["services_ms"]["get_parameters"]["unanswered"] == 1
    assert "set_instruction" not in custom["services_ms"]  # never called
    assert spread([]) is None


def test_metrics_have_the_definitions_of_ros2_benchmark():
    figures = summarize(ten_pairs())
    basic = {name.partition(".")[2]: value for name, value in figures.items() if name.startswith("Basic")}
    assert basic["NUM_FRAMES_SENT"] == 10
    assert basic["NUM_MISSED_FRAMES"] == 5
    assert basic["RECEIVED_DURATION"] == 840
    assert basic["MEAN_FRAME_RATE"] == pytest.approx(5 / 0.84, abs=1e-3)
    assert basic["MEAN_PLAYBACK_FRAME_RATE"] == pytest.approx(10 / 0.9, abs=1e-3)
    assert basic["FIRST_SENT_RECEIVED_LATENCY"] == 20
    assert basic["LAST_SENT_RECEIVED_LATENCY"] == -40  # the last pair stayed without an answer
    assert (basic["MIN_LATENCY"], basic["MEAN_LATENCY"], basic["MAX_LATENCY"]) == (20, 40, 60)
    assert basic["MAX_JITTER"] == 0  # intervals that are all equal


def test_jitter_is_the_change_from_interval_to_interval():
    record = RateRecord(10.0, sent={n: n * 100 * MILLISECOND for n in range(4)}, arrivals={"image": {}})
    record.arrivals["image"] = {n: end * MILLISECOND for n, end in enumerate((10, 110, 230, 320))}
    figures = summarize(record)
    # Intervals 100, 120, 90: they change by 20 and 30.
    assert figures["BasicPerformanceMetrics.MIN_JITTER"] == 20
    assert figures["BasicPerformanceMetrics.MAX_JITTER"] == 30
    assert figures["BasicPerformanceMetrics.STD_DEV_JITTER"] == 5


def test_processor_use_is_of_the_time_between_first_and_last_reading():
    figures = summarize(ten_pairs())
    assert figures["custom"]["node_cpu_percent"] == 60
    assert figures["custom"]["generator_cpu_percent"] == 6
    assert figures["custom"]["machine_cpu_percent"] == 70
    assert figures["ResourceMetrics.MIN_OVERALL_CPU_UTILIZATION"] == 60
    assert figures["ResourceMetrics.MAX_OVERALL_CPU_UTILIZATION"] == 80


def test_growth_of_memory_leaves_the_first_minute_out():
    resident = [(0, 100), (30, 150), (61, 160), (120, 159), (180, 162)]
    readings = [reading(seconds, resident=megabytes * 1_000_000) for seconds, megabytes in resident]
    assert memory_mb(readings) == {"start": 100, "end": 162, "peak": 162, "growth_after_first_minute": 2}
    assert memory_mb(readings[:3])["growth_after_first_minute"] is None
    assert memory_mb([])["end"] is None


def test_a_rate_without_any_answer_has_figures_too():
    record = RateRecord(10.0, sent={1: 10, 2: 20}, arrivals={"image": {}})
    figures = summarize(record)
    assert figures["BasicPerformanceMetrics.NUM_MISSED_FRAMES"] == 2
    assert figures["custom"]["dropped_share"] == 1
    assert figures["custom"]["latency_ms"] == {"image": None}
    json.dumps(figures, allow_nan=False)
    with pytest.raises(ValueError, match="nothing was sent"):
        summarize(RateRecord(10.0))


def held_and_not():
    held = ten_pairs()
    held.rate = 5.0
    held.sent = {stamp: held.sent[stamp] for stamp in (1000, 1002, 1004, 1006)}
    return {
        "rates": [summarize(held), summarize(ten_pairs())],
        "parameters": {"model": "max"},
        "idle_percent": 3.0,
        "memory_mb": memory_mb([]),
        "engine": "OpenCV",
        "rmw": "rmw_fastrtps_cpp",
    }


def test_the_result_file_has_the_form_of_ros2_benchmark():
    content = results_file(held_and_not(), describe_machine(), SETTINGS)
    assert list(content["5.0fps"]) != list(content["custom"])
    assert set(content) >= {"5.0fps", "10.0fps", "custom", "metadata"}
    for name, members in PUBLISHED.items():
        for block in (content, content["5.0fps"], content["10.0fps"]):
            assert set(block) >= {f"{name}.{member}" for member in members}
    # At the top stands the highest rate that was held.
    assert content["BasicPerformanceMetrics.NUM_FRAMES_SENT"] == 4
    assert content["custom"]["highest_rate_held_hz"] == 5
    assert content["metadata"]["parameters"] == {"model": "max"}
    assert content["metadata"]["machine"]["cores"] == os.cpu_count()
    json.dumps(content, allow_nan=False)


def test_the_report_says_what_was_held_and_what_got_lost():
    measured = held_and_not()
    report = node_report(measured, describe_machine(), SETTINGS)
    assert "| 10 | 10 | 5 | 5 | 4 | 4 | 0 | 1 | 60.00 | 4.8 |" in report
    assert "Held with at most 5 % of the pairs dropped: 5 Hz." in report
    assert "1 of 14 pairs never reached the node whole" in report
    assert "--transport shared-memory" in report
    assert highest_held(measured["rates"][1:]) is None


def test_the_plot_is_a_picture(tmp_path):
    plots = pytest.importorskip("irvf.evaluation.bench_plots", reason="plots need matplotlib")
    path = plots.plot_node(held_and_not()["rates"], tmp_path / "node.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_street_is_warm_people_in_both_cameras():
    frames = street_frames((160, 128), (320, 240), 3)
    assert len(frames) == 3
    for thermal, rgb in frames:
        assert (thermal.shape, thermal.dtype) == ((128, 160), np.uint16)
        assert (rgb.shape, rgb.dtype) == ((240, 320, 3), np.uint8)
        assert 29000 < np.percentile(thermal, 5) < 29700 < 30500 < thermal.max() < 31200
    assert np.abs(frames[0][1].astype(int) - frames[2][1]).max() > 50
    np.testing.assert_array_equal(frames[1][0], street_frames((160, 128), (320, 240), 2)[1][0])


def test_load_is_that_of_the_process():
    before = read_load(os.getpid())
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = read_load(os.getpid())
    assert after.process_s - before.process_s == pytest.approx(0.3, abs=0.06)
    # All cores may have been busy all the time.
    assert 0.2 < after.busy_s - before.busy_s < after.total_s - before.total_s + 1e-6
    assert after.resident > 10_000_000
    assert read_load(2**22 + 1) is None


def test_the_commit_is_that_of_the_folder_alone(tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    assert commit(tmp_path) == ""
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)  # noqa: S603
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout  # noqa: S603
    assert len(commit(tmp_path)) >= 7
    assert head.startswith(commit(tmp_path))
    (tmp_path / "inner").mkdir()
    assert commit(tmp_path / "inner") == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rates", "5", "fast"], "'fast' must be a number above 0"),
        (["--rates", "0"], "'0' must be a number above 0"),
        (["--rate", "1001"], "at most 1000"),
        (["--rate", "5", "--rates", "10"], "not allowed with"),
        (["--seconds", "inf"], "above 0"),
        (["--parameter", "engine=openvino"], "NAME:=VALUE"),
        (["--parameter", "engine:=[1"], "cannot be read"),
        (["--size", "640"], "WIDTHxHEIGHT"),
        (["--subscribe", "status"], "invalid choice"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["bench", "node", *arguments])
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "meant"),
    [("threads:=2", ("threads", 2)), ("detector:=", ("detector", "")), ("a.b:=x:=y", ("a.b", "x:=y"))],
)
def test_a_parameter_is_read_as_in_a_file(text, meant):
    assert bench_node.assignment(text) == meant


def test_without_ros_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main(["bench", "node", "--output", str(tmp_path / "out")]) == 2
    assert "needs ROS 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shared_memory_has_room_for_pairs_of_megapixels(monkeypatch):
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    environment = node_environment()
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == environment["FASTDDS_DEFAULT_PROFILES_FILE"]
    profile = ET.parse(environment["FASTDDS_DEFAULT_PROFILES_FILE"])  # noqa: S314
    values = {element.tag.rpartition("}")[2]: element.text for element in profile.iter()}
    pair = 1280 * 1024 * (2 + 3)
    assert int(values["segment_size"]) >= 4 * pair
    assert int(values["maxMessageSize"]) > pair
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in node_environment(shared_memory=False)


def test_a_profile_of_the_users_stays(monkeypatch):
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    environment = node_environment()
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == "mine.xml"
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environment


def python(script):
    return [sys.executable, "-c", script]


def test_a_node_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("irvf.cli.node_process._ENDS_WITHIN", 0.2)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    with node_process(python(stubborn), dict(os.environ), log) as node:
        while "up" not in log.read_text():
            time.sleep(0.02)
    assert node.returncode == -signal.SIGKILL


def test_sigterm_ends_the_node_too(tmp_path):
    work = """
import os, signal, sys, time
from pathlib import Path
from irvf.cli.node_process import node_process

with node_process([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), Path(sys.argv[1])) as node:
    print(node.pid, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""
    command = [*python(work), tmp_path / "log"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    assert "KeyboardInterrupt" in ended.stderr
    assert not Path(f"/proc/{int(ended.stdout)}").exists()


def test_what_runs_beside_the_node_ends_with_it(tmp_path):
    with node_process(python("pass"), dict(os.environ), tmp_path / "log") as node:
        started = time.monotonic()
        assert run_beside(node, python("import time; time.sleep(60)"), dict(os.environ)) == 1
        assert time.monotonic() - started < 10
    with node_process(python("import time; time.sleep(60)"), dict(os.environ), tmp_path / "log") as node:
        assert run_beside(node, python("raise SystemExit(3)"), dict(os.environ)) == 3


def test_the_last_words_are_the_last_error_without_its_prefix(tmp_path):
    log = tmp_path / "log"
    log.write_text("[ERROR] [12.3] [fusion.irvf_fusion_node]: cannot configure: no model 'x'\n[INFO] [12.4] [n]: bye\n")
    assert last_words(log) == "cannot configure: no model 'x'"
    log.write_text("")
    assert last_words(log) == ""
