"""Subscriptions are as reliable as what is published, also when cameras come late or change."""

import pytest
import rclpy
from bench import NAMESPACE, PLAIN, RGB, START, THERMAL, TIMEOUT, Bench, Spinning, rgb_image, thermal_image
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from irvf_fusion_node.cameras import CameraSubscriptions
from irvf_fusion_node.node import FusionNode

RELIABLE, BEST_EFFORT = (
    QoSProfile(depth=10, reliability=kind) for kind in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
)


def asked_for(node, topic):
    """The reliabilities that the fusion node's subscriptions to a topic ask for."""
    infos = node.get_subscriptions_info_by_topic(topic)
    return [info.qos_profile.reliability for info in infos if info.node_name == "irvf_fusion_node"]


class Cameras(Bench):
    """A bench whose node has no overrides, and whose cameras come when the test wants it."""

    def __init__(self, **parameters):
        self.context = Context()
        rclpy.init(context=self.context, args=[])
        super(Bench, self).__init__(self.context)
        for publisher in (self.thermal, self.rgb):
            self.node.destroy_publisher(publisher)
        overrides = [Parameter(name, value=value) for name, value in {**PLAIN, **parameters}.items()]
        self.fusion = FusionNode(context=self.context, namespace=NAMESPACE, parameter_overrides=overrides)
        self._spinning = [Spinning(self.fusion, self.context), Spinning(self.node, self.context)]

    def publish_as(self, profile):
        self.thermal, self.rgb = (self.node.create_publisher(Image, topic, profile) for topic in (THERMAL, RGB))

    def leave(self):
        for publisher in (self.thermal, self.rgb):
            self.node.destroy_publisher(publisher)

    def wait_until_asked_for(self, profile):
        def matched():
            return all(asked_for(self.node, topic) == [profile.reliability] for topic in (THERMAL, RGB)) and all(
                publisher.get_subscription_count() for publisher in (self.thermal, self.rgb)
            )

        self.wait_for(matched, f"subscriptions with {profile.reliability.name}")

    def fuse_pairs(self, start):
        """Send pairs until one is fused: with best effort, the first may find nobody."""
        for number in range(20):
            stamp = start + number * 100_000_000
            self.send(thermal_image(stamp), rgb_image(stamp))
            try:
                return self.wait_for(lambda stamp=stamp: self.status_of(stamp), "a status", timeout=1.0)
            except AssertionError:
                continue
        raise AssertionError(f"no pair was fused within {TIMEOUT} s")


@pytest.fixture
def cameras():
    made = []

    def make(**parameters):
        made.append(Cameras(**parameters))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.mark.parametrize("profile", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
@pytest.mark.parametrize("late", [False, True], ids=["cameras first", "node first"])
def test_the_node_asks_for_what_cameras_offer(cameras, profile, late):
    bench = cameras()
    if not late:
        bench.publish_as(profile)
        bench.wait_for(lambda: bench.fusion.count_publishers(RGB), "the node sees the camera")
    assert bench.change_state("configure")
    assert bench.change_state("activate")
    if late:
        bench.publish_as(profile)
    bench.wait_until_asked_for(profile)
    bench.fuse_pairs(START)


def test_cameras_may_change(cameras):
    bench = cameras()
    bench.publish_as(RELIABLE)
    assert bench.change_state("configure")
    assert bench.change_state("activate")
    for number, profile in enumerate((RELIABLE, BEST_EFFORT, RELIABLE)):
        if number:
            bench.leave()
            bench.publish_as(profile)
        bench.wait_until_asked_for(profile)
        bench.fuse_pairs(START + number * 10_000_000_000)


def test_what_the_user_says_stays(cameras):
    bench = cameras(**{f"qos_overrides.{topic}.subscription.reliability": "best_effort" for topic in (THERMAL, RGB)})
    bench.publish_as(RELIABLE)
    bench.wait_for(lambda: bench.fusion.count_publishers(RGB), "the node sees the camera")
    assert bench.change_state("configure")
    assert bench.change_state("activate")
    bench.wait_until_asked_for(BEST_EFFORT)
    bench.fuse_pairs(START)
    bench.wait_until_asked_for(BEST_EFFORT)


def test_one_camera_with_best_effort_is_enough_to_ask_for_no_more(cameras):
    bench = cameras()
    bench.publish_as(RELIABLE)
    bench.wait_for(lambda: bench.fusion.count_publishers(RGB), "the node sees the camera")
    subscriptions = CameraSubscriptions(bench.fusion, [(Image, RGB, lambda _message: None)], ())
    second = bench.node.create_publisher(Image, RGB, BEST_EFFORT)
    bench.wait_for(lambda: bench.fusion.count_publishers(RGB) == 2, "the node sees both")
    assert subscriptions.follow_publishers() == [f"{RGB}: best_effort, as it is published"]
    assert subscriptions.follow_publishers() == []
    bench.node.destroy_publisher(second)
    subscriptions.close()
