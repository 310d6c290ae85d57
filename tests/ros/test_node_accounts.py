"""Every message is accounted for: in diagnostics by reason, and in a status for every pair."""

import threading
import time

import numpy as np
from bench import PERIOD, RGB, START, THERMAL, image, lost, rgb_image, thermal_image

from irvf.frames import Source
from irvf_fusion_node import node_statistics
from irvf_fusion_node.node_statistics import Statistics
from irvf_msgs.msg import FusionStatus

HOUR = 3_600_000_000_000


def check_sums(account):
    assert account["received"] == account["paired"] + account["waiting"] + sum(lost(account).values()), account


def test_messages_pairs_and_drops_add_up_to_what_was_sent(active):
    bench = active()
    sent = {"thermal": 0, "rgb": 0}

    def send(thermal=None, rgb=None):
        bench.send(thermal, rgb)
        sent["thermal"] += thermal is not None
        sent["rgb"] += rgb is not None

    stamps = [START + number * PERIOD for number in range(30)]
    for number, stamp in enumerate(stamps):
        thermal, rgb = thermal_image(stamp), rgb_image(stamp)
        if number == 5:
            send(thermal=thermal)  # RGB missing
        elif number == 9:
            send(rgb=rgb)  # thermal missing
        elif number == 14:
            send(thermal, rgb)
            send(thermal, rgb)  # both twice
        elif number == 20:
            thermal.encoding = "no such encoding"
            send(thermal, rgb)
        elif number == 25:
            rgb.data = rgb.data[:100]
            send(thermal, rgb)
        else:
            send(thermal, rgb)
    send(thermal=thermal_image(0), rgb=rgb_image(0))  # no stamp

    good = set(stamps) - {stamps[number] for number in (5, 9, 20, 25)}
    bench.wait_for(lambda: len(bench.heard["status"]) >= len(good), "a status for every pair")
    after = bench.settled()
    for account, name in ((after.thermal, "thermal"), (after.rgb, "rgb")):
        assert account["received"] == sent[name]
        assert account["paired"] == len(good)
        check_sums(account)
    assert lost(after.thermal) == {
        "dropped.no_partner": 2,  # of 5 and of 25
        "dropped.duplicate_stamp": 1,
        "dropped.no_stamp": 1,
        "refused.encoding": 1,
    }
    assert lost(after.rgb) == {
        "dropped.no_partner": 2,  # of 9 and of 20
        "dropped.duplicate_stamp": 1,
        "dropped.no_stamp": 1,
        "refused.truncated": 1,
    }
    statuses = bench.heard["status"]
    assert len(statuses) == len(good)
    assert {s.header.stamp.sec * 10**9 + s.header.stamp.nanosec for s in statuses} == good
    outcomes = [status.outcome for status in statuses]
    assert after.pairs.get("pairs.fused", 0) == outcomes.count(FusionStatus.FUSED)
    assert after.pairs.get("pairs.superseded", 0) == outcomes.count(FusionStatus.SUPERSEDED)
    assert sum(after.pairs.values()) == len(good)


def test_a_slow_node_supersedes_pairs_and_says_so_of_each(active):
    bench = active(model="laplacian")
    stamps = [START + number * PERIOD for number in range(10)]
    pairs = [(thermal_image(stamp), rgb_image(stamp, 480, 640)) for stamp in stamps]
    for pair in pairs:  # faster than any laplacian of this size
        bench.send(*pair)
    bench.wait_for(lambda: len(bench.heard["status"]) == len(stamps), "a status for every pair")
    after = bench.settled()
    superseded = [status for status in bench.heard["status"] if status.outcome == FusionStatus.SUPERSEDED]
    assert 0 < len(superseded) == after.pairs["pairs.superseded"]
    assert all(status.message for status in superseded)
    # The newest pair is never given up.
    assert bench.status_of(stamps[-1]).outcome == FusionStatus.FUSED


def test_a_pair_that_fails_in_a_stage_is_counted_and_told(active):
    bench = active()
    dead = image(np.full((48, 64), np.nan, np.float32), "32FC1", START, "thermal_optical")
    bench.send(dead, rgb_image(START))
    status = bench.wait_for(lambda: bench.status_of(START), "a status of the bad pair")
    assert status.outcome == FusionStatus.REFUSED
    assert "finite" in status.message
    bench.fuse(START + PERIOD)
    assert bench.settled().pairs == {"pairs.fused": 1, "pairs.refused.not_finite": 1}


def test_a_looping_bag_pairs_as_many_the_second_time_as_the_first(active):
    bench = active(pairing__max_gap=0.02)
    # 30 Hz RGB and 9 Hz thermal, as cameras differ, 60 frames long.
    events = [(START + number * PERIOD, "rgb") for number in range(60)]
    events += [(START + 7_000_000 + number * 111_111_111, "thermal") for number in range(18)]

    def play():
        for stamp, stream in sorted(events):
            bench.send(**{stream: thermal_image(stamp) if stream == "thermal" else rgb_image(stamp)})

    play()
    first = bench.settled()
    assert first.thermal["received"] == 18
    assert first.thermal["paired"] == 18  # 30 Hz has a frame within 17 ms of every thermal one
    play()
    bench.diagnostics(lambda parts: int(parts["input streams"].values[f"{THERMAL}.received"]) == 36, "second lap")
    second = bench.settled()
    assert second.thermal["paired"] == second.rgb["paired"] == 36
    check_sums(second.thermal)
    check_sums(second.rgb)


def test_accounts_go_on_over_a_restart(active):
    bench = active()
    bench.fuse(START)
    bench.send(thermal=thermal_image(START + PERIOD))
    bench.diagnostics(lambda parts: int(parts["input streams"].values[f"{THERMAL}.received"]) == 2, "both frames")
    assert bench.change_state("deactivate")
    stopped = bench.settled()
    assert stopped.thermal["received"] == 2
    check_sums(stopped.thermal)
    assert bench.change_state("activate")
    bench.wait_for(bench.is_connected, "the node subscribes again")
    bench.fuse(START + HOUR)
    after = bench.settled()
    assert (after.thermal["received"], after.thermal["paired"]) == (3, 2)
    assert after.pairs == {"pairs.fused": 2}
    check_sums(after.thermal)


def test_diagnostics_come_every_second_in_every_state(bench):
    made = bench(use_sim_time=True)  # and nobody publishes /clock
    for transition, state in ((None, "unconfigured"), ("configure", "inactive"), ("activate", "active")):
        if transition:
            assert made.change_state(transition)
        made.diagnostics(lambda parts, state=state: parts["fusion"].values["lifecycle"] == state, state)
    known, begin = len(made.heard["diagnostics"]), time.monotonic()
    made.wait_for(lambda: len(made.heard["diagnostics"]) >= known + 3, "three more")
    assert 1.5 < time.monotonic() - begin < 5.0
    statuses = made.heard["diagnostics"][-1].status
    names = {status.name for status in statuses}
    assert {f"fusion/irvf_fusion_node: {part}" for part in ("fusion", "input streams", "instruction")} <= names
    # What rqt_robot_monitor knows the node by stays the same in every state.
    assert all(status.name.startswith("fusion/irvf_fusion_node: ") for status in statuses)
    assert {status.hardware_id for heard in made.heard["diagnostics"] for status in heard.status} == {
        "fusion/irvf_fusion_node"
    }


def test_diagnostics_say_who_is_silent(active):
    bench = active()
    bench.node.destroy_publisher(bench.thermal)
    parts = bench.diagnostics(lambda parts: THERMAL in parts["input streams"].message, "the missing publisher is named")
    assert parts["input streams"].level == b"\x01"
    assert RGB not in parts["input streams"].message


def test_an_override_of_one_topic_is_not_one_of_the_other(active):
    best_effort = f"qos_overrides.{RGB}.subscription.reliability"
    bench = active(**{best_effort: "best_effort"})
    reliabilities = {
        topic: bench.node.get_subscriptions_info_by_topic(topic)[0].qos_profile.reliability.name
        for topic in (THERMAL, RGB, "/fusion/rgb/camera_info")
    }
    assert reliabilities == {THERMAL: "RELIABLE", RGB: "BEST_EFFORT", "/fusion/rgb/camera_info": "RELIABLE"}


def test_pairs_that_are_all_refused_are_an_error_with_its_reason(active):
    bench = active()
    parts = bench.diagnostics()
    assert parts["input streams"].level == b"\x00"  # nothing is wrong in the first second
    assert parts["fusion"].values["detector"] == "none"
    dead = np.full((48, 64), np.nan, np.float32)
    for number in range(3):
        stamp = START + number * PERIOD
        bench.send(image(dead, "32FC1", stamp, "thermal_optical"), rgb_image(stamp))
    parts = bench.diagnostics(lambda parts: parts["fusion"].level == b"\x02", "an error")
    assert "finite" in parts["fusion"].message
    assert "refused" in parts["input streams"].message
    assert "stamps" not in parts["input streams"].message
    bench.fuse(START + 3 * PERIOD)
    bench.diagnostics(lambda parts: parts["fusion"].level == b"\x00", "the error is gone")


def test_the_rate_falls_while_nothing_is_fused(monkeypatch):
    now = 100.0
    monkeypatch.setattr(node_statistics.time, "monotonic", lambda: now)
    statistics = Statistics()
    for moment in (100.0, 100.033):
        now = moment
        statistics.published(Source.BOTH, 0.0, {})
    now = 104.0
    assert statistics.snapshot().rate == 0.25


def test_qos_overrides_of_outputs_are_taken_and_misspelt_ones_named_once(active):
    taken, misspelt = "qos_overrides./fusion/status.publisher.depth", "qos_overrides./fusion/imag.publisher.depth"
    bench = active(**{"qos_overrides./fusion/image.publisher.reliability": "best_effort", taken: 7, misspelt: 7})
    reliabilities = {
        topic: bench.node.get_publishers_info_by_topic(topic)[0].qos_profile.reliability.name
        for topic in ("/fusion/image", "/fusion/detections")
    }
    assert reliabilities == {"/fusion/image": "BEST_EFFORT", "/fusion/detections": "RELIABLE"}
    for transition in ("deactivate", "activate"):
        assert bench.change_state(transition)
    warnings = bench.wait_for(lambda: [text for text in bench.log_texts() if "QoS override" in text], "a warning")
    bench.diagnostics(lambda parts: parts["fusion"].values["parameter.unknown"] == "1", "counted once")
    (warning,) = warnings
    assert misspelt in warning
    assert "did you mean 'qos_overrides./fusion/image.publisher.depth'" in warning


def test_a_qos_override_of_an_output_that_does_not_exist_fails_to_configure(bench):
    made = bench(**{"qos_overrides./fusion/overlay.publisher.reliability": "very_reliable"})
    assert not made.change_state("configure")
    assert made.state() == "unconfigured"
    assert made.node.count_publishers("/fusion/image") == 0
    assert [thread for thread in threading.enumerate() if thread.name == "instructions"] == []
    assert made.set_parameter("qos_overrides./fusion/overlay.publisher.reliability", "reliable").successful
    made.activate()
    made.fuse(START)
