"""CameraInfo of an image that is not of the size at which its camera was calibrated; arithmetic on messages only.

``sensor_msgs/CameraInfo`` has the size of the calibration in height and width, and K and P in its pixels. What the
image shows of that is told by ``roi``, a window in the same pixels (all 0: everything), and by ``binning_x`` and
``binning_y``, so many of those pixels that make one of the image (0: one). R and D know no pixels: nothing here changes
them.

Edges of an image fall on edges when it is resized or binned, so that centres of pixels are scaled about (-0.5, -0.5):
``c' = (c + 0.5) s - 0.5``. ``image_proc`` takes ``c' = c s``, which is off by a quarter of a pixel at half the size.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

from sensor_msgs.msg import CameraInfo, RegionOfInterest

ASPECT_TOLERANCE = 0.01
"""Relative difference of the two scales that is taken for rounding."""
MAX_COEFFICIENTS = 14
"""Numbers in the D of the largest distortion model, the rational polynomial with thin prism and tilt."""

Size = tuple[int, int]


class CameraNumbers(NamedTuple):
    """What `irvf.imaging.camera_geometry.CameraModel` is made of, in its order: ``CameraModel(*numbers)``.

    Attributes:
        height: rows of the image that the camera sends.
        width: its columns.
        matrix: K in the pixels of that image, 3x3 row by row.
        distortion_model: as the message names it.
        distortion: D; empty for none.
    """

    height: int
    width: int
    matrix: tuple[float, float, float, float, float, float, float, float, float]
    distortion_model: str
    distortion: tuple[float, ...]


def image_size(info: CameraInfo) -> Size:
    """Return height and width of the image that a CameraInfo describes: its region of interest, binned.

    Raises:
        ValueError: no size, or a region that does not lie within it.
    """
    _, _, height, width = _window(info)
    return max(height // max(info.binning_y, 1), 1), max(width // max(info.binning_x, 1), 1)


def fused_camera_info(info: CameraInfo, size: Size) -> CameraInfo:
    """Return the CameraInfo of the fused image, a message of its own.

    Where the camera's image has the size that its CameraInfo describes, nothing is changed: region of interest and
    binning are the receiver's to read, and so is a K of zeros, which marks a camera that is not calibrated. Otherwise
    the driver, or something between, has resized the image without saying so. Then height, width, K and P are made
    those of the image, and region and binning, which are in them, are empty.

    Args:
        info: of the RGB camera.
        size: height and width of the fused image, which are those of the RGB image.

    Raises:
        ValueError: the camera is not calibrated, or its calibration is not one of this image.
    """
    _check_numbers(info)
    described = image_size(info)
    own: CameraInfo = copy.deepcopy(info)
    if described == tuple(size):
        return own
    _check_calibrated(info)
    if math.prod(size) <= 0 or not _same_aspect(described, size):
        raise ValueError(
            f"camera_info describes an image of {described[1]} x {described[0]} pixels, the image is {size[1]} x "
            f"{size[0]}, which is not the same at another scale: calibrate the camera at the size that it sends, or "
            "have its driver tell the region of interest"
        )
    x_offset, y_offset, height, width = _window(info)
    own.height, own.width = int(size[0]), int(size[1])
    own.binning_x = own.binning_y = 0
    own.roi = RegionOfInterest(do_rectify=info.roi.do_rectify)
    own.k = _in_pixels_of(list(info.k), 3, (x_offset, y_offset), (size[1] / width, size[0] / height))
    if info.p[0]:  # else the driver leaves it empty
        own.p = _in_pixels_of(list(info.p), 4, (x_offset, y_offset), (size[1] / width, size[0] / height))
    return own


def camera_model_numbers(info: CameraInfo) -> CameraNumbers:
    """Return the calibration in the pixels of the image that the camera sends, region of interest and binning applied.

    Raises:
        ValueError: the camera is not calibrated, or its numbers are none.
    """
    _check_numbers(info)
    _check_calibrated(info)
    height, width = image_size(info)
    x_offset, y_offset, window_height, window_width = _window(info)
    scale = (width / window_width, height / window_height)
    k = _in_pixels_of(list(info.k), 3, (x_offset, y_offset), scale)
    distortion = tuple(float(number) for number in info.d)
    matrix = (k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7], k[8])
    return CameraNumbers(height, width, matrix, info.distortion_model or "plumb_bob", distortion)


def _check_numbers(info: CameraInfo) -> None:
    if not all(math.isfinite(number) for number in (*info.k, *info.p, *info.r)):
        raise ValueError("K, R or P of camera_info hold numbers that are not finite: its driver has no calibration")
    if len(info.d) > MAX_COEFFICIENTS:
        raise ValueError(f"D of camera_info has {len(info.d)} numbers; distortion models have up to {MAX_COEFFICIENTS}")
    if not all(math.isfinite(number) for number in info.d):
        raise ValueError("D of camera_info holds numbers that are not finite")


def _check_calibrated(info: CameraInfo) -> None:
    if info.k[0] == 0 or info.k[4] == 0:
        raise ValueError("K of camera_info is 0, which marks a camera that is not calibrated")


def _window(info: CameraInfo) -> tuple[int, int, int, int]:
    """Return offset x and y, height and width of what the image shows, in pixels of the calibration."""
    if not (info.height and info.width):
        raise ValueError("camera_info has no height and width: its driver does not fill them")
    roi = info.roi
    if not (roi.height or roi.width):  # offsets alone are no region
        return 0, 0, info.height, info.width
    fits = roi.x_offset + roi.width <= info.width and roi.y_offset + roi.height <= info.height
    if not (roi.height and roi.width and fits):
        raise ValueError(
            f"the region of interest of camera_info, {roi.width} x {roi.height} at ({roi.x_offset}, {roi.y_offset}), "
            f"does not lie within its {info.width} x {info.height} pixels"
        )
    return roi.x_offset, roi.y_offset, roi.height, roi.width


def _same_aspect(described: Size, size: Size) -> bool:
    x_scale, y_scale = size[1] / described[1], size[0] / described[0]
    return abs(x_scale / y_scale - 1) <= ASPECT_TOLERANCE


def _in_pixels_of(
    matrix: list[float], columns: int, offset: tuple[int, int], scale: tuple[float, float]
) -> list[float]:
    """Move a camera matrix, 3 rows of ``columns``, to the pixels of a window that is scaled.

    With the third row (0, 0, 1) of K and P, ``(u + 0.5 - offset) scale - 0.5`` of all points is this of the rows.
    """
    moved = [float(number) for number in matrix]
    for row in range(2):
        shift = 0.5 - offset[row]
        for column in range(columns):
            last = matrix[2 * columns + column]
            moved[row * columns + column] = (matrix[row * columns + column] + shift * last) * scale[row] - 0.5 * last
    return moved
