"""The node's output topics: made at configure, filled for every pair, given back at cleanup."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from irvf.frames import FusionResult, Image8
from irvf.instruction.instruction import Instruction
from irvf.pipeline import FusionPipeline
from irvf_fusion_node.conversions import ImageConversion, detections_to_message, labels_to_message
from irvf_fusion_node.pairing import Pair
from irvf_msgs.msg import ActiveInstruction, FusionStatus

_LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_EVERY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Arrived:
    """An image message and the monotonic time in ns at which it came."""

    message: Image
    arrival: int


def pair_status(
    pair: Pair[Arrived], outcome: int, instruction: Instruction, pipeline: FusionPipeline, message: str = ""
) -> FusionStatus:
    """Return the status of a pair: what became of it (``outcome``), under which instruction, and why."""
    return FusionStatus(
        header=pair.rgb.message.header,
        thermal_stamp=pair.thermal.message.header.stamp,
        gap_ms=pair.gap / 1e6,
        outcome=outcome,
        message=message,
        instruction_sequence=instruction.sequence,
        task=instruction.task.name,
        model=pipeline.model_name,
        engine=pipeline.engine_description,
    )


class Outputs:
    """Publishes what a pair became.

    Args:
        node: they are its lifecycle publishers: silent unless it is active.
        conversion: how images become messages.

    Attributes:
        camera_info: what became of the RGB camera's with the last pair.

    Raises:
        Exception: whatever rclpy raises of a QoS override that is none.
    """

    def __init__(self, node: LifecycleNode, conversion: ImageConversion) -> None:
        self._node = node
        self._conversion = conversion
        self.camera_info = "none"
        self._publishers: list[LifecyclePublisher] = []
        try:
            self._image = self._publisher(Image, "image", _LATEST)
            self._camera_info = self._publisher(CameraInfo, "camera_info", _LATEST)
            self._detections = self._publisher(Detection2DArray, "detections", _LATEST)
            self._segmentation = self._publisher(Image, "segmentation", _LATEST)
            self._saliency = self._publisher(Image, "saliency", _LATEST)
            self._label_info = self._publisher(LabelInfo, "label_info", _LATCHED)
            self._overlay = self._publisher(Image, "overlay", _LATEST)
            self._status = self._publisher(FusionStatus, "status", _EVERY)
            self._active_instruction = self._publisher(ActiveInstruction, "active_instruction", _LATCHED)
        except Exception:
            self.close()
            raise

    def _publisher(self, kind: type, topic: str, profile: QoSProfile) -> LifecyclePublisher:
        publisher = self._node.create_lifecycle_publisher(
            kind,
            topic,
            copy.copy(profile),  # rclpy writes the overrides of the topic into it
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._publishers.append(publisher)
        return publisher

    @property
    def topics(self) -> list[str]:
        """Names of the topics, resolved."""
        return [publisher.topic_name for publisher in self._publishers]

    def close(self) -> None:
        """Give the publishers back."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def publish_result(
        self, result: FusionResult, header: Header, camera_info: CameraInfo | None, draw: Callable[[], Image8]
    ) -> None:
        """Publish the images and detections of one pair; segmentation and saliency only where there are any.

        Args:
            result: of the pipeline.
            header: of the RGB frame.
            camera_info: last one of the RGB camera; published with this header, if its size is the image's.
            draw: returns the overlay; called only while somebody subscribes to it.
        """
        self._image.publish(self._conversion.to_message(result.fused, "rgb8", header))
        self._detections.publish(detections_to_message(result.detections, header))
        for publisher, found in ((self._segmentation, result.segmentation), (self._saliency, result.saliency)):
            if found is not None:
                publisher.publish(self._conversion.to_message(found, "mono8", header))
        height, width = result.fused.shape[:2]
        if camera_info is None:
            self.camera_info = "none"
        elif (camera_info.height, camera_info.width) != (height, width):
            self.camera_info = (
                f"not published: of {camera_info.width} x {camera_info.height} pixels, another size than the image's "
                f"{width} x {height}"
            )
        else:
            self.camera_info = "published"
            own = copy.copy(camera_info)  # the next pair may take the same one
            own.header = header
            self._camera_info.publish(own)
        if self._overlay.get_subscription_count():
            self._overlay.publish(self._conversion.to_message(draw(), "rgb8", header))

    def publish_status(self, status: FusionStatus) -> None:
        """Publish what became of one pair."""
        self._status.publish(status)

    def publish_labels(self, labels: Sequence[str], header: Header) -> None:
        """Publish the names of the classes of the segmentation, for present and later subscribers."""
        self._label_info.publish(labels_to_message(labels, header))

    def publish_instruction(self, message: ActiveInstruction) -> None:
        """Publish which instruction is in force, for present and later subscribers."""
        self._active_instruction.publish(message)
