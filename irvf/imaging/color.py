"""Colour frames to RGB, and RGB to luma and chroma and back."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Frame, Image8, Plane
from irvf.imaging.encodings import LAYOUTS
from irvf.imaging.errors import FrameError

Chroma = tuple[Image8, Image8]
"""The Cr and Cb planes of an image, each ``[H x W]`` uint8 with 128 for grey."""


# ROS names a Bayer pattern by its first two rows from the top left pixel, OpenCV by the second and third pixel of the
# second row: what ROS calls RGGB is BG to OpenCV.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}

_TO_RGB: dict[str, int | None] = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,  # says nothing of the order; OpenCV's is meant, as rviz takes it
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "mono16": cv2.COLOR_GRAY2RGB,
    "16UC1": cv2.COLOR_GRAY2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
    **{f"bayer_{order}{bits}": code for order, code in _BAYER.items() for bits in (8, 16)},
}


def to_rgb(frame: Frame) -> Image8:
    """Convert a colour or grey frame to RGB.

    Args:
        frame: in ``rgb8``, ``bgr8``, ``rgba8``, ``bgra8``, ``8UC3`` (taken as BGR), ``mono8``, ``mono16``, 4:2:2
            (``[H x W x 2]``, as sent) or Bayer (``[H x W]``). 16 bits are scaled to 8 by 255 / 65535.

    Returns:
        ``[H x W x 3]`` uint8; for ``rgb8`` the frame's own image, not a copy.

    Raises:
        FrameError: an encoding that is not known, an array that does not fit it, or an image too small.
    """
    image = _checked(frame)
    code = _TO_RGB[frame.encoding]
    if code is None:
        return image
    converted = cv2.cvtColor(image, code)
    if converted.dtype == np.uint16:
        converted = cv2.convertScaleAbs(converted, alpha=255 / 65535)
    return cast("Image8", converted)


def _checked(frame: Frame) -> NDArray[Any]:
    if frame.encoding not in _TO_RGB:
        raise FrameError("encoding", f"RGB encoding {frame.encoding!r}; allowed: {', '.join(_TO_RGB)}")
    image, layout = frame.image, LAYOUTS[frame.encoding]
    if not layout.fits(image):
        raise FrameError("layout", f"{frame.encoding} image is {image.dtype} {list(image.shape)}; it must be {layout}")
    smallest = 4 if frame.encoding.startswith("bayer") else 1
    if min(frame.width, frame.height) < smallest or (layout.channels == 2 and frame.width % 2):
        even = ", an even width" if layout.channels == 2 else ""
        raise FrameError(
            "size",
            f"{frame.encoding} image of {frame.width} x {frame.height} pixels; needed: {smallest} a side{even}",
        )
    return image


def split_luma_chroma(rgb: Image8) -> tuple[Plane, Chroma]:
    """Separate brightness from colour: YCrCb of ITU-R BT.601, full range.

    Args:
        rgb: ``[H x W x 3]`` uint8.

    Returns:
        Luma, ``[H x W]`` float32 in 0..1, and the chroma planes.
    """
    luma, red, blue = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    plane = np.multiply(luma, np.float32(1 / 255), dtype=np.float32)
    return plane, (cast("Image8", red), cast("Image8", blue))


def merge_luma_chroma(luma: Plane, chroma: Chroma) -> Image8:
    """Put a new brightness under the colours of an image.

    The chroma is carried over unchanged, so that red, green and blue all move by what the luma moved: grey stays grey,
    and hue and the differences between the channels stay as they were. Where a channel leaves 0..255 it is cut off,
    which pulls a strong colour toward white (or black) as overexposed film does.

    Args:
        luma: ``[H x W]`` float32 in 0..1.
        chroma: of :func:`split_luma_chroma`.

    Returns:
        ``[H x W x 3]`` uint8 RGB.
    """
    grey = cv2.addWeighted(luma, 255.0, luma, 0.0, 0.0, dtype=cv2.CV_8U)
    return cast("Image8", cv2.cvtColor(cv2.merge((grey, *chroma)), cv2.COLOR_YCrCb2RGB))
