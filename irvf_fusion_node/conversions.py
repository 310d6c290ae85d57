"""Between ROS messages and the values of `irvf.frames`; no pixel is computed here.

Images cross as numpy views of the message's own memory. ``cv_bridge`` does the same for fewer layouts and, as built for
Humble and Jazzy, on NumPy 1 only: it can be chosen, and the tests compare with it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from irvf.frames import Detection, Frame
from irvf.imaging.encodings import LAYOUTS, check_image, view_image
from irvf.imaging.errors import FrameError


def image_to_frame(message: Image) -> Frame:
    """View an image message as a frame, without a copy unless its byte order is foreign.

    Args:
        message: ``sensor_msgs/Image``, kept alive by the frame.

    Raises:
        FrameError: as :func:`irvf.imaging.encodings.view_image`.
    """
    return _frame(message, view_image(message))


def frame_to_image(image: NDArray[Any], encoding: str, header: Header) -> Image:
    """Make an image message of an array, with one copy of its pixels and no padding.

    Args:
        image: ``[H x W]`` or ``[H x W x C]`` with the dtype and channels of ``encoding``, not empty.
        encoding: a name of ``sensor_msgs/image_encodings`` that ``image_to_frame`` reads.
        header: used as it is.

    Raises:
        ValueError: if the array does not fit the encoding.
    """
    layout = LAYOUTS.get(encoding)
    if layout is None:
        raise ValueError(f"encoding {encoding!r} is not one of {', '.join(LAYOUTS)}")
    if not layout.fits(image) or not image.size:
        raise ValueError(f"an array {image.dtype} {list(image.shape)} is not {encoding}, which is {layout}")
    height, width = image.shape[:2]
    # Through array.array, which the message takes as it is; of bytes or a list it would check each element.
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=sys.byteorder == "big",
        step=width * layout.pixel_bytes,
        data=data,
    )


@dataclass(frozen=True)
class ImageConversion:
    """The two ways across the border: ``to_frame(message)`` and ``to_message(image, encoding, header)``."""

    to_frame: Callable[[Image], Frame]
    to_message: Callable[[NDArray[Any], str, Header], Image]


def image_conversion(name: str) -> ImageConversion:
    """The conversion that the parameter ``image_conversion`` names: ``numpy`` or ``cv_bridge``.

    The latter refuses, as `FrameError`, what its version does not know and rows padded by parts of pixels.

    Raises:
        ValueError: for another name.
        ImportError: if ``cv_bridge`` is chosen and does not work here.
    """
    if name == "numpy":
        return ImageConversion(image_to_frame, frame_to_image)
    if name == "cv_bridge":
        return _cv_bridge_conversion()
    raise ValueError(f"image_conversion {name!r} is not one of numpy, cv_bridge")


def _cv_bridge_conversion() -> ImageConversion:
    try:
        from cv_bridge import CvBridge, CvBridgeError  # noqa: PLC0415 - needed only where it is chosen
        from cv_bridge.boost import cv_bridge_boost  # noqa: F401, PLC0415 - CvBridge meets its absence only at work
    except (ImportError, AttributeError, SystemError) as error:  # the last two: built for another NumPy
        raise ImportError(
            f"image_conversion: cv_bridge cannot be used with NumPy {np.__version__} here ({error}); "
            "choose image_conversion: numpy, which needs no cv_bridge"
        ) from error
    bridge = CvBridge()

    def to_frame(message: Image) -> Frame:
        check_image(message)
        if message.step % LAYOUTS[message.encoding].pixel_bytes:
            raise FrameError(
                "step", f"step {message.step} is no whole number of pixels of {message.encoding}, as cv_bridge needs"
            )
        try:
            return _frame(message, bridge.imgmsg_to_cv2(message, "passthrough"))
        except CvBridgeError as error:
            raise FrameError("conversion", f"cv_bridge cannot convert {message.encoding}: {error}") from error

    def to_message(image: NDArray[Any], encoding: str, header: Header) -> Image:
        message = bridge.cv2_to_imgmsg(image, encoding)
        message.header = header
        return message

    return ImageConversion(to_frame, to_message)


def _frame(message: Image, image: NDArray[Any]) -> Frame:
    return Frame(image, message.encoding, stamp_to_ns(message.header.stamp), message.header.frame_id)


def detections_to_message(detections: Iterable[Detection], header: Header) -> Detection2DArray:
    """Make ``vision_msgs/Detection2DArray`` of detections; without any, an array that is empty.

    Args:
        detections: boxes in pixels of the image that ``header`` belongs to.
        header: used for the array and for each detection.
    """
    message = Detection2DArray(header=header)
    for detection in detections:
        entry = Detection2D(header=header)
        entry.bbox.center.position.x, entry.bbox.center.position.y = map(float, detection.box.center)
        entry.bbox.size_x, entry.bbox.size_y = float(detection.box.width), float(detection.box.height)
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = detection.label
        result.hypothesis.score = float(detection.score)
        entry.results.append(result)
        message.detections.append(entry)
    return message


def labels_to_message(labels: Iterable[str], header: Header) -> LabelInfo:
    """Make ``vision_msgs/LabelInfo`` of the names of classes by their number in a segmentation.

    Its threshold stays 0: the most likely class of a pixel is taken, however likely that is.
    """
    classes = [VisionClass(class_id=number, class_name=name) for number, name in enumerate(labels)]
    return LabelInfo(header=header, class_map=classes)


def stamp_to_ns(stamp: Time) -> int:
    """A message's time in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> Time:
    """Nanoseconds as a message's time.

    Raises:
        ValueError: beyond the range of ``builtin_interfaces/Time``, 2^31 seconds to each side of 1970.
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    if not -(2**31) <= seconds < 2**31:
        raise ValueError(f"{nanoseconds} ns is outside of builtin_interfaces/Time: its seconds have 32 bits")
    return Time(sec=seconds, nanosec=rest)
