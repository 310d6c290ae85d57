"""Pixel layouts of ``sensor_msgs/image_encodings``, and image messages as arrays.

A message is anything with the fields of ``sensor_msgs/Image``: of ROS itself, or of a bag that is read without ROS.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irvf.imaging.errors import FrameError

MAX_SIDE = 8192
"""Most rows, and most columns, of an image that is accepted."""


class ImageMessage(Protocol):
    """The fields of ``sensor_msgs/Image`` that describe pixels."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class Layout(NamedTuple):
    """How a pixel is stored: ``channels`` values of type ``dtype``."""

    dtype: DTypeLike
    channels: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel."""
        return np.dtype(self.dtype).itemsize * self.channels

    def fits(self, image: NDArray[Any]) -> bool:
        """Say whether an array is ``[H x W]``, or ``[H x W x C]`` for C > 1, of this type."""
        trailing = (self.channels,) if self.channels > 1 else ()
        return image.ndim >= 2 and image.shape[2:] == trailing and image.dtype == self.dtype

    def __str__(self) -> str:
        return f"{np.dtype(self.dtype)} [H x W{f' x {self.channels}' if self.channels > 1 else ''}]"


BAYER_ENCODINGS = tuple(f"bayer_{order}{bits}" for bits in (8, 16) for order in ("rggb", "bggr", "gbrg", "grbg"))
THERMAL_ENCODINGS = ("mono8", "8UC1", "mono16", "16UC1", "32FC1", "rgb8", "bgr8")
RGB_ENCODINGS = ("rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "yuv422", "yuv422_yuy2", "uyvy", "yuyv", *BAYER_ENCODINGS)

LAYOUTS = {
    "mono8": Layout(np.uint8, 1),
    "8UC1": Layout(np.uint8, 1),
    "mono16": Layout(np.uint16, 1),
    "16UC1": Layout(np.uint16, 1),
    "32FC1": Layout(np.float32, 1),
    "rgb8": Layout(np.uint8, 3),
    "bgr8": Layout(np.uint8, 3),
    "8UC3": Layout(np.uint8, 3),
    "rgba8": Layout(np.uint8, 4),
    "bgra8": Layout(np.uint8, 4),
    "yuv422": Layout(np.uint8, 2),
    "yuv422_yuy2": Layout(np.uint8, 2),
    "uyvy": Layout(np.uint8, 2),
    "yuyv": Layout(np.uint8, 2),
    **{name: Layout(np.uint16 if name.endswith("16") else np.uint8, 1) for name in BAYER_ENCODINGS},
}
"""All encodings that are read, by name."""


def check_image(message: ImageMessage, allowed: Collection[str] = tuple(LAYOUTS)) -> None:
    """Refuse a message that does not describe an image; looks at the fields only, in constant time.

    Usable means: the encoding is among ``allowed``; width and height are 1 to :data:`MAX_SIDE`, the width even for
    4:2:2; ``step >= width * bytes per pixel``; ``len(data) >= step * height``, the padding of the last row included.

    Args:
        message: an image message.
        allowed: names of encodings: :data:`THERMAL_ENCODINGS`, :data:`RGB_ENCODINGS` or, by default, all.

    Raises:
        FrameError: naming the offending field; its reason is ``encoding``, ``size``, ``step`` or ``truncated``.
    """
    layout = LAYOUTS.get(message.encoding) if message.encoding in allowed else None
    if layout is None:
        raise FrameError("encoding", f"encoding {message.encoding[:40]!r} is not one of {', '.join(allowed)}")
    width, height, step = message.width, message.height, message.step
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise FrameError("size", f"an image of {width} x {height} pixels; each side must be 1 to {MAX_SIDE}")
    if layout.channels == 2 and width % 2:
        raise FrameError("size", f"width {width} is odd, but {message.encoding} stores pixels in twos")
    if step < width * layout.pixel_bytes:
        raise FrameError(
            "step",
            f"step {step} is less than the {width * layout.pixel_bytes} bytes of {width} pixels of {message.encoding}",
        )
    if len(message.data) < step * height:
        raise FrameError(
            "truncated",
            f"{len(message.data)} bytes of data are less than step {step} x height {height} = {step * height}",
        )


def view_image(message: ImageMessage) -> NDArray[Any]:
    """View the pixels of a message, without a copy unless their byte order or an odd step demands one.

    Args:
        message: an image message, kept alive by the view.

    Returns:
        A read-only array ``[H x W]``, or ``[H x W x C]`` where a pixel has C > 1 values (two bytes in 4:2:2, as they
        were sent), in native byte order. Padded rows make its strides larger than its shape.

    Raises:
        FrameError: as :func:`check_image`.
    """
    check_image(message)
    dtype, channels = LAYOUTS[message.encoding]
    stored = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    shape: tuple[int, ...] = (message.height, message.width)
    strides: tuple[int, ...] = (message.step, stored.itemsize * channels)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, stored.itemsize)
    view: NDArray[Any] = np.ndarray(shape, stored, buffer=message.data, strides=strides)
    pixels = view.astype(dtype, copy=False)
    if not all(stride % stored.itemsize == 0 for stride in strides):
        pixels = pixels.copy()  # OpenCV takes rows that begin between two values for others
    pixels.flags.writeable = False
    return pixels
