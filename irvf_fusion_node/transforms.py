"""The transform between two rigidly mounted frames, from /tf_static and /tf.

tf2's own buffer interpolates between moving frames; the two cameras of a rig do not move against each other, so that
the last transform of each frame is enough, and the node needs no tf2 library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from irvf.imaging.camera_geometry import Nine, as_nine, rotation_from_quaternion

Array = NDArray[np.float64]
Transform = tuple[Nine, tuple[float, float, float]]

MAX_FRAMES = 10_000
"""Frames that are kept; further ones are ignored, so that a flood of names does not fill the memory."""
_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_MOVING = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True, eq=False)
class _Pose:
    """A frame in its parent's: ``X_parent = R X + t``."""

    parent: str
    rotation: Array
    translation: Array


class TransformListener:
    """Keeps the last transform of every frame.

    Args:
        node: that subscribes.
        on_change: called when a transform is new or has changed.
    """

    def __init__(self, node: Node, on_change: Callable[[], None]) -> None:
        self._node = node
        self._on_change = on_change
        self._poses: dict[str, _Pose] = {}
        self._static = node.create_subscription(TFMessage, "/tf_static", self._take, _STATIC)
        self._moving: Subscription | None = None

    def follow_moving(self, wanted: bool) -> None:  # noqa: FBT001  (a state to take)
        """Listen to /tf as well, or no more: hundreds of messages a second, of which cameras on one rig need one."""
        if wanted and self._moving is None:
            self._moving = self._node.create_subscription(TFMessage, "/tf", self._take, _MOVING)
        elif not wanted and self._moving is not None:
            self._node.destroy_subscription(self._moving)
            self._moving = None

    def close(self) -> None:
        """Give the subscriptions back."""
        self.follow_moving(wanted=False)
        self._node.destroy_subscription(self._static)

    def _take(self, message: TFMessage) -> None:
        changed = False
        for stamped in message.transforms:
            child, parent = stamped.child_frame_id.lstrip("/"), stamped.header.frame_id.lstrip("/")
            known = self._poses.get(child)
            if known is None and len(self._poses) >= MAX_FRAMES:
                continue
            pose = _pose(parent, stamped.transform)
            if pose is not None and not _equal(pose, known):
                self._poses[child] = pose
                changed = True
        if changed:
            self._on_change()

    def lookup(self, target: str, source: str) -> Transform:
        """Return rotation (3x3 row by row) and translation (metres) with ``X_target = R X_source + t``.

        Raises:
            ValueError: there is no such chain of transforms; says which frames it lacks.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if not target or not source:
            raise ValueError("an image without a frame_id cannot be looked up in TF; set it in the camera's driver")
        to_root = {frame: pose for frame, *pose in self._ancestors(source)}
        for frame, rotation, translation in self._ancestors(target):
            if frame in to_root:
                source_rotation, source_translation = to_root[frame]
                turned = rotation.T @ source_rotation
                moved = rotation.T @ (source_translation - translation)
                return as_nine(turned), (float(moved[0]), float(moved[1]), float(moved[2]))
        raise ValueError(
            f"TF has no transform between {source!r} and {target!r}; publish it, or set registration.rotation"
        )

    def _ancestors(self, frame: str) -> list[tuple[str, Array, Array]]:
        """List a frame and those above it, each with the transform from the first to it."""
        rotation, translation = np.eye(3), np.zeros(3)
        found = [(frame, rotation, translation)]
        passed = {frame}
        while (pose := self._poses.get(frame)) is not None and pose.parent not in passed:
            rotation, translation = pose.rotation @ rotation, pose.rotation @ translation + pose.translation
            frame = pose.parent
            passed.add(frame)
            found.append((frame, rotation, translation))
        return found


def _pose(parent: str, transform: Any) -> _Pose | None:
    """Return a pose, or None of a transform that is none."""
    q, t = transform.rotation, transform.translation
    translation = np.array([t.x, t.y, t.z], np.float64)
    try:
        rotation = np.array(rotation_from_quaternion(q.x, q.y, q.z, q.w)).reshape(3, 3)
    except ValueError:
        return None
    return _Pose(parent, rotation, translation) if np.isfinite(translation).all() else None


def _equal(pose: _Pose, known: _Pose | None) -> bool:
    return (
        known is not None
        and pose.parent == known.parent
        and np.array_equal(pose.rotation, known.rotation)
        and np.array_equal(pose.translation, known.translation)
    )
