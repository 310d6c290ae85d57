"""CameraInfo of the fused image: a point in space must fall on the pixel of the image that shows it.

The truth is a pinhole projection at the calibrated size, and where that point of the sensor lands when the image is
cropped, binned or resized: x of an edge becomes (x - offset) * scale, and the centre of pixel 0 is 0.5 from its edge.
"""

import copy

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from irvf_fusion_node.camera_info import camera_model_numbers, fused_camera_info, image_size

K = [900.0, 0.0, 652.3, 0.0, 905.0, 350.7, 0.0, 0.0, 1.0]
P = [880.0, 0.0, 640.9, -88.0, 0.0, 880.0, 355.2, 0.0, 0.0, 0.0, 1.0, 0.0]
R = [0.99, 0.01, 0.0, -0.01, 0.99, 0.0, 0.0, 0.0, 1.0]
D = [-0.31, 0.11, 0.0005, -0.0002, 0.0]
POINT = np.array([0.4, -0.2, 3.0])


def made(**changes):
    info = CameraInfo(height=720, width=1280, distortion_model="plumb_bob", d=D, k=K, r=R, p=P)
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def seen_by(matrix, columns):
    point = np.append(POINT, 1.0)[:columns]
    x, y, w = np.reshape(matrix, (3, columns)) @ point
    return np.array([x / w, y / w])


def check(info, offset, scale, of=None):
    of = of or made()
    for columns, name in ((3, "k"), (4, "p")):
        wanted = (seen_by(getattr(of, name), columns) + 0.5 - offset) * scale - 0.5
        assert np.allclose(seen_by(getattr(info, name), columns), wanted, atol=1e-9), name
    assert list(info.d) == D
    assert np.allclose(info.r, R)
    assert info.distortion_model == "plumb_bob"


@pytest.mark.parametrize(("size", "scale"), [((360, 640), 0.5), ((480, 853), 2 / 3), ((1440, 2560), 2.0)])
def test_an_image_that_was_resized(size, scale):
    info = fused_camera_info(made(), size)
    assert (info.height, info.width) == size
    assert (info.binning_x, info.binning_y) == (0, 0)
    check(info, 0, np.array([size[1] / 1280, size[0] / 720]))
    assert info.p[3] == pytest.approx(-88.0 * size[1] / 1280)  # the baseline stays: Tx = -fx B
    assert size[1] / 1280 == pytest.approx(scale, abs=1e-3)


def test_the_pixel_that_shows_a_point_when_opencv_resizes():
    image = np.zeros((720, 1280), np.float32)
    x, y = seen_by(K, 3)
    rows, columns = np.mgrid[:720, :1280]
    image = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2)).astype(np.float32)
    small = cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:360, :640]
    found = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
    assert np.allclose(seen_by(fused_camera_info(made(), (360, 640)).k, 3), found, atol=0.01)


def test_what_the_driver_says_is_left_as_it_is():
    window = RegionOfInterest(x_offset=320, y_offset=100, height=480, width=640, do_rectify=True)
    for info, size in (
        (made(), (720, 1280)),
        (made(binning_x=2, binning_y=2), (360, 640)),
        (made(roi=window), (480, 640)),
        (made(roi=window, binning_x=2, binning_y=4), (120, 320)),
    ):
        before = copy.deepcopy(info)
        own = fused_camera_info(info, size)
        assert own == before
        own.k[0], own.roi.width = 1.0, 7
        assert info == before  # the next pair may take the same one


def test_a_region_of_interest_that_was_also_resized():
    window = RegionOfInterest(x_offset=320, y_offset=100, height=480, width=640)
    info = fused_camera_info(made(roi=window), (240, 320))
    assert (info.height, info.width, info.roi) == (240, 320, RegionOfInterest())
    check(info, np.array([320, 100]), 0.5)
    binned = fused_camera_info(made(roi=window, binning_x=2, binning_y=2), (120, 160))
    check(binned, np.array([320, 100]), 0.25)
    assert image_size(made(roi=window, binning_x=2, binning_y=2)) == (240, 320)


def test_the_model_of_the_camera_is_of_the_image_that_it_sends():
    window = RegionOfInterest(x_offset=320, y_offset=100, height=480, width=640)
    numbers = camera_model_numbers(made(roi=window, binning_x=2, binning_y=2))
    assert (numbers.height, numbers.width, numbers.distortion_model) == (240, 320, "plumb_bob")
    assert numbers.distortion == tuple(D)
    wanted = (seen_by(K, 3) + 0.5 - np.array([320, 100])) * 0.5 - 0.5
    assert np.allclose(seen_by(numbers.matrix, 3), wanted)
    assert numbers.matrix[:2] == (450.0, 0.0)
    assert camera_model_numbers(made()).matrix == tuple(K)


def test_a_p_that_the_driver_leaves_empty_stays_empty():
    info = fused_camera_info(made(p=[0.0] * 12), (360, 640))
    assert list(info.p) == [0.0] * 12
    assert info.k[0] == 450.0


@pytest.mark.parametrize(
    ("changes", "size", "reason"),
    [
        ({}, (480, 640), "1280 x 720.*640 x 480"),
        ({}, (0, 0), "0 x 0"),
        ({"k": [0.0] * 9}, (360, 640), "not calibrated"),
        ({"k": [float("nan"), *K[1:]]}, (720, 1280), "finite"),
        ({"p": [float("inf"), *P[1:]]}, (720, 1280), "finite"),
        ({"d": [float("nan")]}, (720, 1280), "D of camera_info"),
        ({"d": [0.0] * 15}, (720, 1280), "15 numbers"),
        ({"height": 0, "width": 0}, (720, 1280), "no height and width"),
        ({"roi": RegionOfInterest(x_offset=1000, height=720, width=640)}, (720, 640), "does not lie within"),
        ({"roi": RegionOfInterest(height=720)}, (720, 1280), "does not lie within"),
    ],
)
def test_a_calibration_that_is_none_of_this_image_is_refused(changes, size, reason):
    with pytest.raises(ValueError, match=reason):
        fused_camera_info(made(**changes), size)


def test_an_uncalibrated_camera_is_passed_on_as_it_is():
    assert fused_camera_info(made(k=[0.0] * 9), (720, 1280)) == made(k=[0.0] * 9)
