"""The lifecycle by its services, and parameters while the node runs."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from bench import PERIOD, START, image, rgb_image, thermal_image
from rcl_interfaces.msg import ParameterType

from irvf.engines import factory
from irvf.engines.engine import EngineError
from irvf_fusion_node.parameters import PARAMETERS

IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def topics(bench):
    """Subscriptions and publishers of the fusion node."""
    name, space = "irvf_fusion_node", "/fusion"
    kinds = (
        bench.node.get_subscriber_names_and_types_by_node,
        bench.node.get_publisher_names_and_types_by_node,
        bench.node.get_service_names_and_types_by_node,
    )
    return {topic for kind in kinds for topic, _type in kind(name, space)}


def threads_named(name):
    return [thread.name for thread in threading.enumerate() if thread.name == name]


def system_threads():
    return len(list(Path("/proc/self/task").iterdir()))


def test_three_lives_each_give_everything_back(bench):
    made = bench(model="irvf", processing_scale=0.25)
    unconfigured = made.wait_for(lambda: topics(made), "the node is there")
    threads = []
    for life in range(3):
        start = START + life * 10 * PERIOD
        assert made.change_state("configure")
        assert (made.state(), threads_named("inference")) == ("inactive", [])
        configured = topics(made)
        assert {"/fusion/image", "/fusion/status", "/fusion/instruction", "/fusion/set_instruction"} <= configured
        assert "/fusion/rgb/image_raw" not in configured

        assert made.change_state("activate")
        made.wait_for(made.is_connected, "the node subscribes and publishes")
        assert (made.state(), threads_named("inference")) == ("active", ["inference"])
        made.fuse(start)

        assert made.change_state("deactivate")
        made.wait_for(lambda expected=configured: topics(made) == expected, "the subscriptions are given back")
        assert (made.state(), threads_named("inference")) == ("inactive", [])
        heard = len(made.heard["image"]) + len(made.heard["status"])
        made.send_pair(start + PERIOD)
        made.set_instruction("viewing")  # answered after whatever the pair could have set off
        assert len(made.heard["image"]) + len(made.heard["status"]) == heard

        assert made.change_state("cleanup")
        assert made.state() == "unconfigured"
        assert threads_named("instructions") == []
        made.wait_for(lambda: topics(made) == unconfigured, "publishers and services are given back")
        gc.collect()
        threads.append(system_threads())
    assert threads[2] <= threads[0]


def test_deactivation_waits_for_the_pair_in_work_and_nothing_is_published_after(active):
    bench = active(model="irvf", processing_scale=1.0)
    for number in range(5):
        bench.send(thermal_image(START + number * PERIOD), rgb_image(START + number * PERIOD, 480, 640))
    # The first pair is in work, and what came after it waits or is superseded.
    bench.wait_for(lambda: bench.heard["status"], "the mailbox overflows")
    assert bench.change_state("deactivate")
    after = bench.settled()
    assert after.pairs.get("pairs.fused", 0) >= 1
    bench.wait_for(lambda: len(bench.heard["status"]) == after.thermal["paired"], "a status for every pair")
    assert sum(after.pairs.values()) == after.thermal["paired"]
    known = {name: len(messages) for name, messages in bench.heard.items() if name in ("image", "status")}
    assert bench.change_state("cleanup")
    bench.diagnostics()
    assert {name: len(bench.heard[name]) for name in known} == known


def test_shutdown_while_inference_is_running(active):
    bench = active(model="irvf", processing_scale=1.0)
    bench.send(thermal_image(START), rgb_image(START, 480, 640))
    bench.wait_for(lambda: threads_named("inference"), "inference")
    bench.close()
    assert threads_named("inference") == []


def test_an_instruction_survives_no_cleanup_but_every_deactivation(active):
    bench = active()
    assert bench.instruct("saliency").accepted
    for transition in ("deactivate", "activate"):
        assert bench.change_state(transition)
    bench.wait_for(bench.is_connected, "the node subscribes again")
    assert bench.fuse(START).status.task == "saliency"
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert bench.change_state(transition)
    bench.wait_for(bench.is_connected, "the node subscribes again")
    assert bench.fuse(START + PERIOD).status.task == "viewing"


# Parameters


def fused_left_edge(bench, number):
    """Mean of the left fifth of a fused image: 255 where a white thermal column lies, 60 where none does."""
    stamp = START + number * PERIOD
    thermal = np.zeros((100, 100), np.uint8)
    thermal[:, :20] = 255
    grey = np.full((100, 100, 3), 60, np.uint8)
    out = bench.fuse(stamp, image(thermal, "mono8", stamp, "t"), image(grey, "rgb8", stamp, "c"))
    return np.frombuffer(out.image.data, np.uint8).reshape(100, 100, 3)[20:80, :15].mean()


def test_a_live_parameter_takes_effect_with_the_next_pair(active):
    bench = active(registration__method="homography")
    assert fused_left_edge(bench, 0) > 240
    moved = list(IDENTITY)
    moved[2] = 60.0  # thermal pixels lie 60 columns to the right
    assert bench.set_parameter("registration.homography", moved).successful
    assert fused_left_edge(bench, 1) == pytest.approx(60, abs=2)
    assert bench.set_parameter("registration.method", "none").successful
    assert fused_left_edge(bench, 2) > 240


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("model", "average", "configure"),
        ("detector", "", "configure"),
        ("segmentation.model", "segmentation", "configure"),
        ("saliency.model", "saliency", "configure"),
        ("pairing.max_gap", 0.1, "configure"),
        ("registration.homography", [0.0] * 9, "homography"),
        ("registration.homography", [float("nan")] * 9, "finite"),
        ("registration.homography", [1.0], "9"),
        ("processing_scale", 1.5, "processing_scale"),
        ("processing_scale", "0.5", "type"),
        ("thermal.low_percentile", -1.0, "low_percentile"),
        ("thermal.range", "sometimes", "auto"),
        ("processing_scale", None, "undeclared"),
        ("registration.homography", None, "undeclared"),
        ("no_such_parameter", 1, "undeclared"),
    ],
)
def test_a_change_that_is_not_possible_is_refused_with_the_reason(active, name, value, word):
    bench = active(registration__method="homography")
    result = bench.set_parameter(name, value)
    assert not result.successful
    assert word in result.reason
    assert fused_left_edge(bench, 0) > 240  # the old value stays in force
    if name in PARAMETERS:
        assert bench.get_parameter(name).type != ParameterType.PARAMETER_NOT_SET


def test_every_parameter_is_described_with_its_range_and_when_it_is_read(bench):
    made = bench()
    for name, descriptor in zip(PARAMETERS, made.describe_parameters(PARAMETERS), strict=True):
        spec = PARAMETERS[name]
        assert descriptor.name == name
        assert len(descriptor.description) > 20
        assert ("Live." in descriptor.description) == spec.live
        assert ("Read at configure." in descriptor.description) == (not spec.live and not spec.at_start)
        number = isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool)
        assert bool(descriptor.floating_point_range or descriptor.integer_range) == number, name


def bounded():
    return [name for name, spec in PARAMETERS.items() if spec.low is not None]


def test_ranges_and_choices_are_enforced(bench):
    made = bench()
    for name in bounded():
        spec = PARAMETERS[name]
        kind = type(spec.default)
        for value in (kind(spec.low), kind(spec.high), spec.default):
            assert made.set_parameter(name, value).successful, (name, value)
        for value in (kind(spec.low - 1), kind(spec.high + 1)):
            result = made.set_parameter(name, value)
            assert not result.successful, (name, value)
            assert result.reason
    for name, spec in PARAMETERS.items():
        if spec.choices:
            result = made.set_parameter(name, "neither")
            assert not result.successful
            assert all(choice in result.reason for choice in spec.choices)


def test_building_an_engine_is_shown_while_it_lasts(bench, monkeypatch):
    def build(_name, _network, _threads, options, *_device):
        options.progress("Building the engine", 0.25)
        raise EngineError("the GPU ran away")

    monkeypatch.setattr(factory, "_load", build)  # stands for TensorRT, which is on no such machine
    made = bench(model="realtime", engine="tensorrt")
    made.wait_for(lambda: made.heard["diagnostics"], "the node reports")
    assert not made.change_state("configure")
    parts = made.diagnostics(lambda parts: "ran away" in parts["fusion"].message, "the failure")
    assert parts["fusion"].level == b"\x02"
    said = [status.message for message in made.heard["diagnostics"] for status in message.status]
    assert "building an engine: Building the engine, 25%" in said
