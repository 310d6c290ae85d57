"""The subscriptions to the cameras, each as reliable as what is published there.

Camera drivers publish with best effort or reliably, players of bags mostly reliably. An image is cut into many pieces
on its way, and one that gets lost costs the image: a reliable publisher sends it again, but only to those who ask for
it. Who asks for it of a publisher with best effort hears nothing at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind
from rclpy.subscription import Subscription


@dataclass
class _Camera:
    """A topic of a camera.

    Attributes:
        kind: of the messages.
        topic: as it is asked for.
        callback: takes each message.
        is_fixed: whether the user says how reliable it is.
        reliability: of the present subscription.
        subscription: to it.
    """

    kind: type
    topic: str
    callback: Callable[[Any], None]
    is_fixed: bool
    reliability: ReliabilityPolicy
    subscription: Subscription


class CameraSubscriptions:
    """Subscribes to topics, and again where their publishers turn out to be more or less reliable.

    Args:
        node: that subscribes.
        topics: type, name and callback of each.
        fixed: resolved names of those whose reliability is overridden by a parameter.

    Raises:
        Exception: whatever rclpy raises of a QoS override that is none; nothing is subscribed then.
    """

    def __init__(
        self, node: Node, topics: Sequence[tuple[type, str, Callable[[Any], None]]], fixed: Collection[str]
    ) -> None:
        self._node = node
        self._cameras: list[_Camera] = []
        try:
            for kind, topic, callback in topics:
                resolved = node.resolve_topic_name(topic)
                reliability = self._published(resolved) or ReliabilityPolicy.BEST_EFFORT
                is_fixed = resolved in fixed
                made = self._subscribe(kind, topic, callback, reliability, is_fixed=is_fixed)
                self._cameras.append(_Camera(kind, topic, callback, is_fixed, reliability, made))
        except Exception:
            self.close()
            raise

    @property
    def topic_names(self) -> list[str]:
        """Resolved names."""
        return [camera.subscription.topic_name for camera in self._cameras]

    def follow_publishers(self) -> list[str]:
        """Subscribe anew where the publishers want it otherwise; return what was changed, in words."""
        changes = []
        for camera in self._cameras:
            wanted = self._published(camera.subscription.topic_name)
            if camera.is_fixed or wanted in (None, camera.reliability):
                continue
            made = self._subscribe(camera.kind, camera.topic, camera.callback, wanted, is_fixed=False)
            self._node.destroy_subscription(camera.subscription)
            camera.subscription, camera.reliability = made, wanted
            changes.append(f"{camera.subscription.topic_name}: {wanted.name.lower()}, as it is published")
        return changes

    def close(self) -> None:
        """Give the subscriptions back."""
        for camera in self._cameras:
            self._node.destroy_subscription(camera.subscription)
        self._cameras = []

    def _published(self, topic: str) -> ReliabilityPolicy | None:
        """Return what all publishers of a topic can serve; None while there are none."""
        offered = {info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(topic)}
        if not offered:
            return None
        return ReliabilityPolicy.RELIABLE if offered == {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        reliability: ReliabilityPolicy,
        *,
        is_fixed: bool,
    ) -> Subscription:
        profile = copy.copy(qos_profile_sensor_data)  # rclpy writes the overrides of a topic into what it is given
        profile.reliability = reliability
        kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, *([QoSPolicyKind.RELIABILITY] if is_fixed else [])]
        options = QoSOverridingOptions(kinds)
        return self._node.create_subscription(kind, topic, callback, profile, qos_overriding_options=options)
