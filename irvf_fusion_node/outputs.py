"""The node's output topics: made at configure, filled for every pair, given back at cleanup."""

from __future__ import annotations

import copy
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from irvf.frames import FusionResult, Image8
from irvf_fusion_node.conversions import ImageConversion, detections_to_message
from irvf_msgs.msg import ActiveInstruction, FusionStatus

_LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_EVERY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishes what a pair became.

    Args:
        node: they are its lifecycle publishers: silent unless it is active.
        conversion: how images become messages.
    """

    def __init__(self, node: LifecycleNode, conversion: ImageConversion) -> None:
        self._node = node
        self._conversion = conversion
        self._image = node.create_lifecycle_publisher(Image, "image", _LATEST)
        self._camera_info = node.create_lifecycle_publisher(CameraInfo, "camera_info", _LATEST)
        self._detections = node.create_lifecycle_publisher(Detection2DArray, "detections", _LATEST)
        self._overlay = node.create_lifecycle_publisher(Image, "overlay", _LATEST)
        self._status = node.create_lifecycle_publisher(FusionStatus, "status", _EVERY)
        self._active_instruction = node.create_lifecycle_publisher(ActiveInstruction, "active_instruction", _LATCHED)

    def close(self) -> None:
        """Give the publishers back."""
        for publisher in (
            self._image,
            self._camera_info,
            self._detections,
            self._overlay,
            self._status,
            self._active_instruction,
        ):
            self._node.destroy_lifecycle_publisher(publisher)

    def publish_result(
        self, result: FusionResult, header: Header, camera_info: CameraInfo | None, draw: Callable[[], Image8]
    ) -> None:
        """Publish the images and detections of one pair.

        Args:
            result: of the pipeline.
            header: of the RGB frame.
            camera_info: last one of the RGB camera; published with this header, if its size is the image's.
            draw: returns the overlay; called only while somebody subscribes to it.
        """
        self._image.publish(self._conversion.to_message(result.fused, "rgb8", header))
        self._detections.publish(detections_to_message(result.detections, header))
        if camera_info is not None and (camera_info.height, camera_info.width) == result.fused.shape[:2]:
            own = copy.copy(camera_info)  # the next pair may take the same one
            own.header = header
            self._camera_info.publish(own)
        if self._overlay.get_subscription_count():
            self._overlay.publish(self._conversion.to_message(draw(), "rgb8", header))

    def publish_status(self, status: FusionStatus) -> None:
        """Publish what became of one pair."""
        self._status.publish(status)

    def publish_instruction(self, message: ActiveInstruction) -> None:
        """Publish which instruction is in force, for present and later subscribers."""
        self._active_instruction.publish(message)
