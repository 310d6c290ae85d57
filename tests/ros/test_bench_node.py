"""`irvf bench node`: the real command and the real node; stamps in real messages; an end that leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from bench import START, rgb_image
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from irvf_fusion_node.camera_messages import PICTURES, read_stamp, street_messages, with_stamp
from irvf_fusion_node.conversions import ns_to_stamp, stamp_to_ns
from irvf_msgs.msg import FusionStatus

PLAIN = ("model:=max", "detector:=", "segmentation.model:=", "saliency.model:=")


def command(*arguments, parameters=PLAIN):
    given = [word for parameter in parameters for word in ("--parameter", parameter)]
    return [sys.executable, "-m", "irvf.cli", "bench", "node", *given, *map(str, arguments)]


def bench_node(*arguments, parameters=PLAIN):
    return subprocess.run(  # noqa: S603  (a fixed command)
        command(*arguments, parameters=parameters),
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("stamp", [0, 1, START, START + 999_999_999, (2**31 - 1) * 1_000_000_000])
@pytest.mark.parametrize(
    "message", [rgb_image(START, 5, 7), Detection2DArray(), FusionStatus(header=Header(frame_id="rgb"))]
)
def test_a_stamp_is_written_and_read_where_rclpy_has_it(message, stamp):
    data = bytes(serialize_message(message))
    stamped = with_stamp(data, stamp)
    message.header.stamp = ns_to_stamp(stamp)
    assert deserialize_message(stamped, type(message)) == message
    assert read_stamp(stamped) == stamp
    assert read_stamp(bytes(serialize_message(message))) == stamp


def test_big_endian_messages_are_stamped_as_such():
    # Encapsulation CDR_BE of the RTPS specification: 00 00, then the fields most significant byte first.
    data = bytes.fromhex("00000000 00000001 00000002 00000000")
    assert read_stamp(data) == 1_000_000_002
    assert with_stamp(data, 3_000_000_004) == bytes.fromhex("00000000 00000003 00000004 00000000")


def test_the_street_is_played_forth_and_back():
    messages = street_messages((64, 48), (32, 24))
    assert len(messages) == 2 * PICTURES - 2
    assert messages[1] == messages[-1]
    thermal, rgb = (deserialize_message(data, Image) for data in messages[0])
    assert (thermal.encoding, thermal.width, thermal.height, thermal.step) == ("mono16", 64, 48, 128)
    assert (rgb.encoding, rgb.width, rgb.height, rgb.step) == ("rgb8", 32, 24, 96)
    assert stamp_to_ns(rgb.header.stamp) == 0


@pytest.mark.parametrize(
    ("thermal_size", "rgb_size"), [((640, 480), (640, 480)), ((64, 48), (32, 24)), ((16, 12), (16, 12))]
)
def test_no_picture_is_played_twice_in_a_row(thermal_size, rgb_size):
    # Two equal thermal pictures are what a closed shutter looks like.
    messages = street_messages(thermal_size, rgb_size)
    for before, after in zip(messages, messages[1:] + messages[:1], strict=True):
        pictures = [deserialize_message(pair[0], Image).data.tobytes() for pair in (before, after)]
        assert pictures[0] != pictures[1]


def test_the_counts_of_the_real_node_agree(tmp_path):
    # Longer than the second between two service calls.
    arguments = ("--size", "128x96", "--thermal-size", "64x48", "--rates", "20", "10", "--seconds", "2")
    result = bench_node(*arguments, "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads((tmp_path / "node.json").read_text())
    assert [name for name in content if name.endswith("fps")] == ["10.0fps", "20.0fps"]
    services = []
    for rate in (10, 20):
        figures = content[f"{rate:.1f}fps"]
        custom = figures["custom"]
        pairs, received = custom["pairs"], custom["received"]
        assert figures["BasicPerformanceMetrics.NUM_FRAMES_SENT"] == pairs["sent"] == 2 * rate
        assert pairs["sent"] == sum(pairs[name] for name in ("fused", "superseded", "refused", "not_paired"))
        assert 0 < pairs["answered"] <= min(received.values()) <= max(received.values()) <= pairs["fused"]
        assert figures["BasicPerformanceMetrics.NUM_MISSED_FRAMES"] == pairs["sent"] - received["image"]
        assert figures["BasicPerformanceMetrics.MEAN_PLAYBACK_FRAME_RATE"] == pytest.approx(rate, rel=0.15)
        for topic in ("image", "detections"):
            latency = custom["latency_ms"][topic]
            assert 0 < latency["min"] <= latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        # The node's own account is a part of what its user waits for.
        assert custom["stages_ms"]["fuse"] < custom["stages_ms"]["total"] < custom["latency_ms"]["detections"]["max"]
        services += custom["services_ms"].values()
        assert custom["node_memory_mb"]["start"] > 20
        assert custom["node_cpu_percent"] >= 0
    assert services
    assert all(service["calls"] and not service["unanswered"] for service in services)
    metadata = content["metadata"]
    assert metadata["parameters"]["model"] == "max"
    assert metadata["parameters"]["instruction.initial"] == "detection"
    assert metadata["machine"]["packages"]["numpy"]
    assert "## Latency in ms" in result.stdout
    assert "model max" in (tmp_path / "node.log").read_text()
    assert {path.name for path in tmp_path.iterdir()} >= {"node.md", "node.json", "node.png"}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [(["model:=no_such_model"], "no model 'no_such_model'"), ([*PLAIN, "no.such:=1"], "no parameter 'no.such'")],
)
def test_a_node_that_cannot_do_it_ends_the_bench_with_its_reason(tmp_path, parameters, reason):
    result = bench_node("--output", tmp_path, "--timeout", 20, parameters=parameters)
    assert result.returncode == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "node.json").exists()


def test_ctrl_c_leaves_no_process_behind(tmp_path):
    bench = subprocess.Popen(  # noqa: S603  (a fixed command)
        command("--size", "64x48", "--rate", "10", "--seconds", "60", "--output", tmp_path),
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    log, end = tmp_path / "node.log", time.monotonic() + 30
    while not (log.exists() and "warm after" in log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1.5)
    os.killpg(bench.pid, signal.SIGINT)  # as a terminal does
    output, _ = bench.communicate(timeout=40)
    assert bench.returncode == 130
    assert "Traceback" not in output
    with pytest.raises(ProcessLookupError):
        os.killpg(bench.pid, 0)
