"""The node's output topics: made at configure, filled for every pair, given back at cleanup."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Sequence

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from irvf.frames import FusionResult, Image8
from irvf.imaging.compressed import encode_jpeg
from irvf_fusion_node.camera_info import fused_camera_info
from irvf_fusion_node.conversions import ImageConversion, detections_to_message, labels_to_message
from irvf_msgs.msg import ActiveInstruction, FusionStatus

_LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_EVERY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishes what a pair became.

    Args:
        node: they are its lifecycle publishers: silent unless it is active.
        conversion: how images become messages.

    Attributes:
        camera_info: what became of the RGB camera's with the last pair.
        jpeg_quality: of the compressed images, 1..100; may be set at any time.

    Raises:
        Exception: whatever rclpy raises of a QoS override that is none.
    """

    def __init__(self, node: LifecycleNode, conversion: ImageConversion, jpeg_quality: int = 90) -> None:
        self._node = node
        self._conversion = conversion
        self.camera_info = "none"
        self.jpeg_quality = jpeg_quality
        self._scaled = _ScaledCameraInfo()
        self._publishers: list[LifecyclePublisher] = []
        try:
            self._image = self._publisher(Image, "image", _LATEST)
            self._compressed = self._publisher(CompressedImage, "image/compressed", _LATEST)
            self._camera_info = self._publisher(CameraInfo, "camera_info", _LATEST)
            self._detections = self._publisher(Detection2DArray, "detections", _LATEST)
            self._segmentation = self._publisher(Image, "segmentation", _LATEST)
            self._saliency = self._publisher(Image, "saliency", _LATEST)
            self._label_info = self._publisher(LabelInfo, "label_info", _LATCHED)
            self._overlay = self._publisher(Image, "overlay", _LATEST)
            self._compressed_overlay = self._publisher(CompressedImage, "overlay/compressed", _LATEST)
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
            header: of the RGB frame, or of the frame that is alone.
            camera_info: last one of that camera; published with this header, brought to the image's size.
            draw: returns the overlay; called only while somebody subscribes to it.
        """
        self._publish_image(result.fused, header, self._image, self._compressed)
        self._detections.publish(detections_to_message(result.detections, header))
        for publisher, found in ((self._segmentation, result.segmentation), (self._saliency, result.saliency)):
            if found is not None:
                publisher.publish(self._conversion.to_message(found, "mono8", header))
        self._publish_camera_info(camera_info, (result.fused.shape[0], result.fused.shape[1]), header)
        if self._overlay.get_subscription_count() or self._compressed_overlay.get_subscription_count():
            self._publish_image(draw(), header, self._overlay, self._compressed_overlay)

    def _publish_image(
        self, image: Image8, header: Header, raw: LifecyclePublisher, compressed: LifecyclePublisher
    ) -> None:
        """Publish an image in the forms that somebody subscribes to."""
        if raw.get_subscription_count():
            raw.publish(self._conversion.to_message(image, "rgb8", header))
        if compressed.get_subscription_count():
            form, data = encode_jpeg(image, "rgb8", self.jpeg_quality)
            compressed.publish(CompressedImage(header=header, format=form, data=array("B", data)))

    def _publish_camera_info(self, camera_info: CameraInfo | None, size: tuple[int, int], header: Header) -> None:
        if camera_info is None:
            self.camera_info = "none"
            return
        try:
            scaled = self._scaled(camera_info, size)
        except ValueError as error:
            self.camera_info = f"not published: {error}"
            return
        self.camera_info = "published"
        own = copy.copy(scaled)  # the next pair may take the same one
        own.header = header
        self._camera_info.publish(own)

    def publish_status(self, status: FusionStatus) -> None:
        """Publish what became of one pair."""
        self._status.publish(status)

    def publish_labels(self, labels: Sequence[str], header: Header) -> None:
        """Publish the names of the classes of the segmentation, for present and later subscribers."""
        self._label_info.publish(labels_to_message(labels, header))

    def publish_instruction(self, message: ActiveInstruction) -> None:
        """Publish which instruction is in force, for present and later subscribers."""
        self._active_instruction.publish(message)


class _ScaledCameraInfo:
    """Brings a camera_info to the size of an image; one that was brought there before costs nothing."""

    def __init__(self) -> None:
        self._made: tuple[CameraInfo, tuple[int, int], CameraInfo] | None = None

    def __call__(self, info: CameraInfo, size: tuple[int, int]) -> CameraInfo:
        if self._made is None or self._made[0] is not info or self._made[1] != size:
            self._made = info, size, fused_camera_info(info, size)
        return self._made[2]
