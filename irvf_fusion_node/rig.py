"""The geometry of the two cameras, from parameters, their camera_info and TF."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from irvf.imaging.camera_geometry import CameraModel, RigGeometry
from irvf_fusion_node.camera_info import MAX_COEFFICIENTS, camera_model_numbers
from irvf_fusion_node.configuration import NodeConfig, coefficients
from irvf_fusion_node.pairing import Stream
from irvf_fusion_node.transforms import TransformListener

_Fields = tuple[object, ...]


class Rig:
    """Puts together what is known of the cameras; for the executor's thread alone.

    Args:
        node: that listens to TF, while a transform is to come from there.
        config: of the node.
        on_change: called with the geometry, None while it is not known, whenever it has changed.

    Attributes:
        config: of the node, as it was last applied.
        geometry: as it is known now.
    """

    def __init__(self, node: Node, config: NodeConfig, on_change: Callable[[RigGeometry | None], None]) -> None:
        self.config = config
        self._node = node
        self._on_change = on_change
        self._transforms: TransformListener | None = None
        self._cameras: dict[Stream, CameraModel] = {}
        self._fields: dict[Stream, _Fields] = {}
        self._refused: dict[Stream, str] = {}
        self._frames: dict[Stream, str] = {}
        self._problem = ""
        self.geometry: RigGeometry | None = None
        self.apply(config)

    @property
    def problem(self) -> str:
        """Why there is no geometry; empty where there is, or none is needed."""
        return self._problem if self._is_needed else ""

    @property
    def _is_needed(self) -> bool:
        live = self.config.live
        return "camera_info" in (live.registration, live.registration == "auto" and live.initial_registration)

    def apply(self, config: NodeConfig) -> None:
        """Take over a configuration at once."""
        self.config = config
        if self._is_needed and config.rig.transform is None:
            self._transforms = self._transforms or TransformListener(self._node, self._update)
        else:
            self.close()
        self._update()

    def close(self) -> None:
        """Listen to TF no more."""
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None

    def take_camera_info(self, stream: Stream, message: CameraInfo) -> None:
        """Learn a camera's calibration; one that is the same as before costs nothing."""
        roi, binning = message.roi, (message.binning_x, message.binning_y)
        region = (roi.x_offset, roi.y_offset, roi.height, roi.width)
        size = (message.height, message.width)
        fields = (
            size,
            binning,
            region,
            message.distortion_model,
            *(bytes(message.k), bytes(message.p), bytes(message.r)),
            tuple(message.d[:MAX_COEFFICIENTS]),
        )
        if fields == self._fields.get(stream):
            return
        self._fields[stream] = fields
        self._cameras.pop(stream, None)
        try:
            numbers = camera_model_numbers(message)
            self._cameras[stream] = CameraModel(
                numbers.height,
                numbers.width,
                numbers.matrix,
                numbers.distortion_model,
                coefficients(numbers.distortion_model, numbers.distortion),
            )
            self._refused.pop(stream, None)
        except ValueError as error:
            self._refused[stream] = f"camera_info of the {stream.value} camera: {str(error)[:300]}"
        self._update()

    def take_frame(self, stream: Stream, frame_id: str) -> None:
        """Learn the name of a camera's optical frame, as its images have it."""
        if self._frames.get(stream) != frame_id:
            self._frames[stream] = frame_id
            self._update()

    def _update(self) -> None:
        """Put together what is known, and tell of it where it has changed."""
        before = self.geometry
        try:
            self.geometry, self._problem = self._put_together(), ""
        except ValueError as error:
            self.geometry, self._problem = None, str(error)
        if self._transforms is not None:
            self._transforms.follow_moving(self.geometry is None)
        if self.geometry != before:
            self._on_change(self.geometry)

    def _put_together(self) -> RigGeometry:
        config = self.config.rig
        cameras = {stream: config.cameras[stream] or self._cameras.get(stream) for stream in Stream}
        thermal, rgb = cameras[Stream.THERMAL], cameras[Stream.RGB]
        if thermal is None or rgb is None:
            lacking = Stream.THERMAL if thermal is None else Stream.RGB
            raise ValueError(
                self._refused.get(lacking)
                or f"no camera_info of the {lacking.value} camera has come; publish it, or set "
                f"registration.{lacking.value}.matrix"
            )
        transform = config.transform
        if transform is None:
            if self._transforms is None:
                raise ValueError("no transform between the cameras is known; set registration.rotation")
            transform = self._transforms.lookup(self._frames.get(Stream.RGB, ""), self._frames.get(Stream.THERMAL, ""))
        rotation, translation = transform
        return RigGeometry(thermal, rgb, rotation, translation, config.distance)
